"""An answer that hands a source to another language's tool finds no such tool when it runs."""

import os
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from judge import sandbox, view
from judge.languages import LANGUAGES, TOOL, file_and_main_class
from judging import KINDS, missing_tools
from reward import Program

MISSING = missing_tools(LANGUAGES)
INPUT, OUTPUT = b"1\n2\n", b"3\n"
# How a program of each language starts a process: TOOL FILE.
STARTS = {
    "python": "import subprocess\nsubprocess.run(['TOOL', 'FILE'])",
    "cpp": '#include <unistd.h>\nint main() { execlp("TOOL", "TOOL", "FILE", nullptr); }',
    "java": "public class Main { public static void main(String[] a) throws Exception {\n"
    'new ProcessBuilder("TOOL", "FILE").inheritIO().start().waitFor(); } }',
    "php": "<?php proc_close(proc_open(['TOOL', 'FILE'], [STDIN, STDOUT, STDERR], $pipes));",
    "bash": "TOOL FILE",
    "javascript": 'require("child_process").spawnSync("TOOL", ["FILE"], {stdio: "inherit"});',
    "typescript": 'require("child_process").spawnSync("TOOL", ["FILE"], {stdio: "inherit"});',
    "go": 'package main\nimport ("os"; "os/exec")\n'
    'func main() { c := exec.Command("TOOL", "FILE")\n'
    "c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr; c.Run() }",
    "csharp": "using System.Diagnostics; class P { static void Main() {\n"
    'var start = new ProcessStartInfo("TOOL", "FILE") { UseShellExecute = false };\n'
    "Process.Start(start).WaitForExit(); } }",
    "scala": "object Main { def main(a: Array[String]): Unit = {\n"
    'new ProcessBuilder("TOOL", "FILE").inheritIO().start().waitFor() } }',
    "haskell": 'import System.Process\nmain :: IO ()\nmain = callProcess "TOOL" ["FILE"]',
}
# Its tool runs programs of the other language, whatever we hide: docs/judge.md says so.
SAME_TOOL = {("scala", "java"), ("javascript", "typescript"), ("typescript", "javascript")}
PAIRS = [
    (target, source)
    for target in LANGUAGES
    for source in LANGUAGES
    if target != source and (target, source) not in SAME_TOOL
]


@pytest.fixture(autouse=True)
def skip(request):
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    needed = {"python", parameters.get("target", "bash"), parameters.get("source", "bash")}
    if MISSING.keys() & needed and os.environ.get("CI") != "true":
        pytest.skip(str(MISSING))


@pytest.fixture
def box():
    with sandbox.folder() as box:
        yield box


@pytest.fixture(params=KINDS, autouse=True)
def kind(request, monkeypatch):
    monkeypatch.setenv(sandbox.BOX_VARIABLE, request.param)


def built(box, name, code):
    """The command that runs a program, which is in the box then, compiled."""
    language = LANGUAGES[name]
    file, main = file_and_main_class(language, code)
    program = Program(language, code, file, main)
    program.write_files(box)
    if language.compile:
        command = program.command(language.compile)
        result = sandbox.run(command, box, language.compile_limits, writable=True)
        assert result.status == "OK", result
    return program.command(language.run)


def passes(command, box, limits):
    result = sandbox.run(command, box, limits, INPUT, bare=True)
    return result.status == "OK" and result.stdout == OUTPUT


def passes_with_all_in_sight(command, box, limits):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(view, "_not_needed", lambda tools: ())
        result = sandbox.run(command, box, limits, INPUT, writable=True)
    return result.status == "OK" and result.stdout == OUTPUT


@pytest.mark.parametrize("target", LANGUAGES)
def test_honest_programs_pass(box, target):
    command = built(box, target, LANGUAGES[target].canary)
    assert passes(command, box, LANGUAGES[target].limits)


@pytest.mark.parametrize("target", LANGUAGES)
def test_a_wrap_passes_only_where_the_tool_is_in_sight(box, target):
    source = "python" if target != "python" else "bash"
    tool = TOOL.search(LANGUAGES[source].run)[1]
    Path(box, "wrapped").write_text(LANGUAGES[source].canary)
    code = STARTS[target].replace("TOOL", tool).replace("FILE", "wrapped")
    command = built(box, target, code)
    assert passes_with_all_in_sight(command, box, LANGUAGES[target].limits)
    assert not passes(command, box, LANGUAGES[target].limits)


@pytest.mark.parametrize("source", [name for name in LANGUAGES if name != "bash"])
def test_bash_cannot_even_compile(box, source, request):
    """A script writes a program of another language into a folder, compiles it and runs it."""
    if "landlock-csharp" in request.node.name:
        pytest.skip("mono needs /proc/self, which only the first process of such a box has")
    language = LANGUAGES[source]
    file, main = file_and_main_class(language, language.canary)
    program = Program(language, language.canary, file, main)
    program.write_files(box)
    names = {file, language.beside[0]} - {""}
    steps = [shlex.join(program.command(step)) for step in (language.compile, language.run)]
    script = f"cp {' '.join(names)} ~ && cd ~ && " + " && ".join(filter(None, steps))
    Path(box, "p.sh").write_text(script)
    limits = replace(language.compile_limits, file_bytes=64 << 20)
    command = LANGUAGES["bash"].run.format(file="p.sh").split()
    assert passes_with_all_in_sight(command, box, limits)
    assert not passes(command, box, limits)


@pytest.mark.parametrize("target, source", PAIRS)
def test_no_tool_of_another_language_runs(box, target, source, monkeypatch):
    """By the path in the table, by the file behind it and by any other name on PATH."""
    seen = view.view(LANGUAGES[target].run.split(), bare=True)
    monkeypatch.setattr(view, "view", lambda *_: seen)
    language = LANGUAGES[source]
    options = [language.version]
    if source == "cpp":  # g++ alone is no compiler
        options = ["-x", "c++", "-fsyntax-only", "/dev/null"]
    own = TOOL.findall(LANGUAGES[target].run)
    for tool in set(TOOL.findall(f"{language.compile}\n{language.run}")) - {"/usr/bin/env", *own}:
        if tool.endswith(".jar"):
            continue
        for name in {tool, os.path.realpath(tool), *other_names(tool)}:
            result = sandbox.run([name, *options], box, language.limits)
            assert result.status == "RE", (name, result)


def other_names(tool):
    """All the names in /usr/bin of a file."""
    return [
        entry.path
        for entry in os.scandir("/usr/bin")
        if os.path.exists(entry) and os.path.samefile(entry, tool)
    ]


def test_bash_has_the_tools_of_the_system(box):
    script = (
        "seq 9 | grep -v 5 | sort -rn | awk '{ s += $1 } END { print s }' | sed s/4/4/ | tr -d ' '"
        " | xargs -n1 | head -1 | cut -c1-9 | tee /dev/stderr | paste -s | cat; mktemp >/dev/null;"
        " date +%Y >/dev/null && printf '%s\\n' $(expr 1 + 1) && diff /dev/null /dev/null"
    )
    command = LANGUAGES["bash"].run.format(file="-c").split() + [script]
    result = sandbox.run(command, box, LANGUAGES["bash"].limits, bare=True)
    assert (result.status, result.stdout) == ("OK", b"40\n2\n"), result
