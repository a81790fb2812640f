"""What programs of each language are wont to use: ways to read x ways to write, all AC.

Every file of idioms/ holds small programs of one language, as answers of chat models write them.
All do the same: read n, then a line of n integers, and print their sum and their maximum. One whose
title says "(needs ...)" wants a newer standard than `make toolchains` can install. Each is compiled
once, and then runs in both kinds of box.
"""

import re

import pytest

from conftest import ROOT
from judge import sandbox
from judge.languages import LANGUAGES
from judging import KINDS, missing_tools, problem, skip_without_tool
from reward import judge

MISSING = missing_tools(LANGUAGES)
TESTS = [{"stdin": "3\n4 -2 9\n", "stdout": "11 9\n"}, {"stdin": "1\n5\n", "stdout": "5 5\n"}]
# PHP refuses to open any pipe by that name, outside of a box too.
PENDING = {("php", "/dev/stdin")}
IDIOM = re.compile(r"^## ([^\n]*)\n(```.*?^```)$", re.M | re.S)
IDIOMS = {
    language: dict(IDIOM.findall((ROOT / f"tests/judge/idioms/{language}.md").read_text()))
    for language in LANGUAGES
}
ROWS = [(language, name) for language, answers in IDIOMS.items() for name in answers]


@pytest.fixture(autouse=True)
def skip(request):
    skip_without_tool(request, MISSING)


@pytest.fixture
def in_both(request, monkeypatch):
    """Compilers run in a landlock box, programs in a bwrap box and then in the other."""
    real = sandbox.run

    def run(*args, bare=False, **how):
        monkeypatch.setenv(sandbox.BOX_VARIABLE, "bwrap")
        results = [real(*args, bare=bare, **how)] if bare else []
        monkeypatch.setenv(sandbox.BOX_VARIABLE, KINDS[-1])
        results.append(real(*args, bare=bare, **how))
        if "needs /tmp" in request.node.name and len(set(KINDS)) > 1:
            assert results.pop().stdout != results[0].stdout
        assert len({(result.status, result.stdout) for result in results}) == 1, results
        return results[0]

    monkeypatch.setattr(sandbox, "run", run)


def test_the_table_is_wide():
    assert all(len(answers) >= 8 for answers in IDIOMS.values()) and len(ROWS) >= 90


@pytest.mark.parametrize("language, name", ROWS)
def test_idiom(language, name, in_both, request):
    if "(needs " in name and "/tmp" not in name or (language, name) in PENDING:
        # Strict but where a newer tool makes it pass.
        request.applymarker(pytest.mark.xfail(strict=(language, name) in PENDING))
    result = judge(problem(language, TESTS), IDIOMS[language][name])
    assert result.status == "AC", result.detail
