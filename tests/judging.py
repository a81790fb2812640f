"""What the tests of the judge share: problems, answers, and what to skip without a tool."""

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from conftest import ROOT
from judge import landlock, sandbox
from judge.languages import why_missing
from reward import judge

SUMS = [{"stdin": "1\n2\n", "stdout": "3\n"}, {"stdin": "20\n22\n", "stdout": "42\n"}]
ONE_SUM = SUMS[:1]
# The kinds of box that this machine has; a kernel may come without Landlock.
KINDS = [kind for kind in sandbox.BOXES if kind != "landlock" or not landlock.why_not()]


def missing_tools(languages):
    """{name: what to install} of those languages {name: Language} that cannot be judged here."""
    if not Path(sandbox.BWRAP).exists():
        return dict.fromkeys(languages, "bubblewrap is not installed")
    reasons = {name: why_missing(language) for name, language in languages.items()}
    return {name: reason for name, reason in reasons.items() if reason}


def skip_without_tool(request, missing):
    """For an autouse fixture: by the test's parameter `language`, else by Python. Not on CI."""
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    name = parameters.get("language") or "python"
    if name in missing and os.environ.get("CI") != "true":
        pytest.skip(missing[name])


def problem(language="python", tests=SUMS, **fields):
    return {
        "id": "p",
        "source_language": "java",
        "target_language": language,
        "source": "x\n",
        "tests": tests,
        **fields,
    }


def block(language, code):
    return f"Here it is:\n```{language}\n{code}\n```\nDone."


def verdict(language, code, tests=SUMS):
    return judge(problem(language, tests), block(language, code))


def prints(text):
    return [{"stdin": "", "stdout": text}]


@contextlib.contextmanager
def small_disk(size):
    """The folder of a file system of so many bytes, such as "64k", for boxes to be in."""
    if os.geteuid():
        pytest.skip("needs root to mount a small file system")
    with tempfile.TemporaryDirectory(prefix="oorl-test-", dir="/tmp") as folder:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder]
        subprocess.run(mount, check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", folder], check=True)


def score(folder, *more):
    """reward.py on the files P and C of a folder, its verdicts into V."""
    command = [sys.executable, str(ROOT / "reward.py")]
    files = ["--problems", "P", "--completions", "C", "--out", "V", "--workers", "2"]
    return subprocess.run([*command, *files, *more], cwd=folder, capture_output=True, text=True)
