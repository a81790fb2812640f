"""What a program is called: Java's files and classes, Scala's objects."""

import time

import pytest

from judge import languages
from judge.languages import LANGUAGES, java_names


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
