"""What a program is called (Java's files and classes, Scala's objects), and the toolchain taken."""

import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from judge import languages, sandbox
from judge.languages import LANGUAGES, java_names
from judging import KINDS


@pytest.mark.parametrize(
    "source, names",
    [
        (
            'class B {} class C { static void main(String[] a) { String s = "}}{"; } }',
            ("C.java", "C"),
        ),
        (
            "/* class Z { */ public final class D { public class E {} } class M { public static "
            "void main() {} }",
            ("D.java", "M"),
        ),
        (
            "package x.y; public class A { class B {} public static void main(String... a) {} }",
            ("A.java", "x.y.A"),
        ),
        (
            "class H { static void main(int n) {} } class I { void main() {} }\n"
            "class M { static public void main(final String[] args) {} }",
            ("M.java", "M"),
        ),
        ("class H { static void main(java.lang.String... a) {} }", ("H.java", "H")),
        ("", ("Main.java", "Main")),
        ("class " + "a" * 500 + "{}", ("Main.java", "Main")),
    ],
)
def test_java_names(source, names):
    assert java_names(source) == names


@pytest.mark.parametrize(
    "source, main",
    [
        ("object B { val x = 1 }\nobject A { def main(args: Array[String]): Unit = {} }", "A"),
        ("class C(val x: Int) extends Object {}\nobject D extends App { println(3) }", "D"),
        ("package x.y\nobject E extends C with App {\n}", "x.y.E"),
        (
            "sealed trait T\ncase object A extends T\ncase object B extends T\n"
            "object Main extends App {\n}",
            "Main",
        ),
        (
            "object H { def main(x: Int): Int = x }\n"
            "object M { case object N; object O { val x = 1 }\n"
            "def main ( a : Array[String] ) = {} }",
            "M",
        ),
        ("object E extends C\n  with D with App\nobject F extends App", "E"),
        ("object U\n@main def run(n: Int): Unit =\n  println(n)", "run"),
        ("// object Z extends App {\nobject F { def main(a: Array[String]) {} }", "F"),
        ("", "Main"),
    ],
)
def test_scala_main(source, main):
    assert languages.file_and_main_class(LANGUAGES["scala"], source) == ("p.scala", main)


def test_java_names_are_linear():
    began = time.monotonic()
    for part in ("/*", '"\\"', '"""', "public ", "{", "class "):
        java_names(part * (60_000 // len(part)))
    assert time.monotonic() - began < 2


def test_the_best_installed_toolchain_is_taken():
    better = [
        {"standard": "best", "run": "/usr/lib/no-such-tool/* {file}"},
        {"standard": "good", "run": "/usr/bin/env FOO=1 /usr/bin/env p", "compile": ""},
        {"standard": "fair", "run": "/usr/bin/env p"},
    ]
    row = replace(LANGUAGES["scala"], better=better)
    assert languages.best_installed(row).standard == "good"
    assert languages.best_installed(replace(row, better=better[:1])).run == row.run


def test_a_tool_that_cannot_run_is_missing_with_the_mend(monkeypatch):
    """As Go for another machine, which a wheel may hold."""
    if not os.access("/usr/local/lib", os.W_OK):
        pytest.skip("a box sees tools in /usr only")
    with tempfile.TemporaryDirectory(dir="/usr/local/lib") as folder:
        os.chmod(folder, 0o755)
        tool = Path(folder, "go")
        tool.write_bytes(b"\x7fELF" + bytes(60))
        tool.chmod(0o755)
        language = replace(LANGUAGES["go"], compile=f"{tool} build {{file}}")
        monkeypatch.setattr(languages, "LANGUAGES", {"go": language})
        for kind in KINDS:
            monkeypatch.setenv(sandbox.BOX_VARIABLE, kind)
            versions, missing = languages.installed_toolchains()
            assert not versions and "\n" not in missing["go"]
            assert f"{tool} fails in the box (RE: " in missing["go"]
            assert missing["go"].endswith(
                "; remove it, or install it again: apt-get install golang-go"
            )


def test_every_alternative_names_a_tool_that_tells_whether_it_is_installed():
    for row in languages._ROWS:
        for changes in row.better:
            commands = " ".join(changes.get(field, "") for field in ("compile", "run"))
            own_tools = set(languages.TOOL.findall(commands))
            assert own_tools - set(languages.TOOL.findall(f"{row.compile} {row.run}")), row.name
