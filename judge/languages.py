"""The table of languages: how a program of each is named, compiled, run and limited in the box.

Commands are split at white space, then {file} is the source's name and {main} its main class (Java, Scala). Every tool
is an absolute path that leads to a file under /usr, the one part of the host that the box sees; a tool elsewhere counts
as missing. `canary` adds two numbers, one a line; with " - " for " + " it is the known-bad program.
Left out: php.ini (and with it shared extensions such as mbstring), ES modules, several source files, packages that do
not come with a language.
"""

import os
import re
import tempfile
from dataclasses import dataclass, replace

from judge import sandbox
from judge.sandbox import Limits


@dataclass(frozen=True)
class Language:
    name: str  # in problems.jsonl, in the prompt, and as the tag of the block that it asks for
    display: str
    tags: set[str]  # accepted on a block
    file: str
    run: str
    install: str
    canary: str
    compile: str = ""
    beside: tuple[str, str] = ("", "")  # name and text of a second file in the box
    version: str = "--version"
    limits: Limits = Limits()
    compile_limits: Limits = Limits(cpu_s=10, wall_s=30, memory_bytes=1536 << 20, processes=64)


# RLIMIT_AS breaks the JVM and node: flags bound their heaps, the resident bytes of the box bound the rest.
VIRTUAL_MACHINE = Limits(
    cpu_s=5, wall_s=15, memory_bytes=768 << 20, processes=128, address_space=False
)
COMPILER_VM = Limits(cpu_s=15, wall_s=40, memory_bytes=1 << 30, processes=128, address_space=False)
# `make toolchains` compiles the standard library once: since 1.20 Go comes without it, which costs 11 CPU seconds a program
GO_CACHE = " GOCACHE=/usr/local/share/oorl-go" * os.path.isdir("/usr/local/share/oorl-go")

_ROWS = [
    Language(
        "python",
        "Python",
        {"python", "python3", "py"},
        "p.py",
        run="/usr/bin/python3 -I {file}",
        install="apt-get install python3",
        canary="print(int(input()) + int(input()))",
    ),
    Language(
        "cpp",
        "C++",
        {"cpp", "c++", "cc"},
        "p.cpp",
        # in the folder `make toolchains` precompiles bits/stdc++.h: 0.4 s instead of 1.1; without it g++ does not mind
        compile="/usr/bin/g++ -std=c++17 -O1 -pipe -fmax-errors=5 -w -I/usr/local/include/oorl {file}",
        run="./a.out",
        install="apt-get install g++",
        canary='#include <cstdio>\nint main() { int a, b; scanf("%d %d", &a, &b); printf("%d\\n", a + b); }',
    ),
    Language(
        "java",
        "Java",
        {"java"},
        "Main.java",
        compile="/usr/bin/javac -proc:none -encoding UTF-8 -Xmaxerrs 5 -J-Xmx512m -J-XX:+UseSerialGC "
        "-J-XX:TieredStopAtLevel=1 -d . {file}",
        run="/usr/bin/java -ea -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xmx256m -Xss64m -XX:-UsePerfData {main}",
        install="apt-get install default-jdk-headless",
        limits=VIRTUAL_MACHINE,
        compile_limits=COMPILER_VM,
        canary="public class Sum { public static void main(String[] a) throws Exception {\n"
        "var in = new java.io.BufferedReader(new java.io.InputStreamReader(System.in));\n"
        "System.out.println(Integer.parseInt(in.readLine()) + Integer.parseInt(in.readLine())); } }",
    ),
    Language(
        "php",
        "PHP",
        {"php"},
        "p.php",
        run="/usr/bin/php -n -d display_errors=stderr -d log_errors=0 -d memory_limit=256M {file}",
        install="apt-get install php-cli",
        canary='<?php echo (int) fgets(STDIN) + (int) fgets(STDIN), "\\n";',
    ),
    Language(
        "bash",
        "Bash",
        {"bash", "sh", "shell"},
        "p.sh",
        run="/usr/bin/bash --norc {file}",
        install="apt-get install bash",
        canary="read a; read b; echo $((a + b))",
    ),
    Language(
        "javascript",
        "JavaScript",
        {"javascript", "js"},
        "p.js",
        run="/usr/bin/node --max-old-space-size=256 {file}",
        install="apt-get install nodejs",
        canary='const [a, b] = require("fs").readFileSync(0, "utf8").split("\\n"); console.log(+a + +b);',
        limits=VIRTUAL_MACHINE,
    ),
    Language(
        "typescript",
        "TypeScript",
        {"typescript", "ts"},
        "p.ts",
        # every file a module, so that a program may declare `require` itself; node's own modules are untyped, as their
        # types (@types/node) contradict programs that declare what they use
        compile="/usr/bin/tsc --target es2022 --lib es2022 --module commonjs --moduleDetection force --strict false "
        "--skipLibCheck {file} node.d.ts",
        beside=(
            "node.d.ts",
            "declare var require: any, process: any, console: any, Buffer: any, global: any;\n"
            "declare var setTimeout: any, setImmediate: any;\ndeclare module '*';\n",
        ),
        run="/usr/bin/node --max-old-space-size=256 p.js",
        install="npm install -g --prefix /usr typescript",
        canary='const [a, b] = require("fs").readFileSync(0, "utf8").split("\\n"); console.log(+a + +b);',
        limits=VIRTUAL_MACHINE,
        compile_limits=COMPILER_VM,
    ),
    Language(
        "go",
        "Go",
        {"go", "golang"},
        "p.go",
        compile=f"/usr/bin/env GO111MODULE=off CGO_ENABLED=0 GOMAXPROCS=2{GO_CACHE} /usr/bin/go build -o a.out {{file}}",
        run="./a.out",
        install="apt-get install golang-go",
        version="version",
        canary='package main\nimport "fmt"\nfunc main() { var a, b int; fmt.Scan(&a, &b); fmt.Println(a + b) }',
        limits=VIRTUAL_MACHINE,
        compile_limits=COMPILER_VM,
    ),
    Language(
        "csharp",
        "C#",
        {"csharp", "cs", "c#"},
        "p.cs",
        compile="/usr/bin/mcs -d:DEBUG -r:System.Numerics.dll -out:p.exe {file}",
        # or a failed Debug.Assert would exit with 0
        run="/usr/bin/env MONO_TRACE_LISTENER=Console.Error /usr/bin/mono p.exe",
        install="apt-get install mono-mcs mono-runtime libmono-system-numerics4.0-cil libmono-system-core4.0-cil",
        canary="using System; class P { static void Main() {\n"
        "Console.WriteLine(int.Parse(Console.ReadLine()) + int.Parse(Console.ReadLine())); } }",
        limits=VIRTUAL_MACHINE,
        compile_limits=COMPILER_VM,
    ),
    Language(
        "scala",
        "Scala",
        {"scala"},
        "p.scala",
        compile="/usr/bin/scalac -J-Xmx512m -J-Xss8m -J-XX:+UseSerialGC -J-XX:TieredStopAtLevel=1 -nowarn {file}",
        run="/usr/bin/java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xmx256m -Xss64m -XX:-UsePerfData "
        "-cp /usr/share/java/scala-library.jar:. {main}",
        install="apt-get install scala default-jdk-headless",
        version="-version",
        canary="object Sum { def main(a: Array[String]): Unit = {\n"
        "println(scala.io.StdIn.readInt() + scala.io.StdIn.readInt()) } }",
        limits=VIRTUAL_MACHINE,
        compile_limits=replace(COMPILER_VM, cpu_s=30, wall_s=80),
    ),
    Language(
        "haskell",
        "Haskell",
        {"haskell", "hs"},
        "p.hs",
        compile="/usr/bin/ghc -O0 -v0 -o a.out {file}",
        run="./a.out",
        install="apt-get install ghc",
        canary="main :: IO ()\nmain = do { a <- readLn; b <- readLn; print (a + b :: Int) }",
        limits=replace(VIRTUAL_MACHINE, memory_bytes=512 << 20),
        compile_limits=COMPILER_VM,
    ),
]
LANGUAGES = {language.name: language for language in _ROWS}


def why_missing(language: Language) -> str | None:
    """What to install, if a tool of the language is not to be had under /usr."""
    for tool in re.findall(
        "(?:^| )(/usr/(?:bin|share)/[^\\s:]+)", f"{language.compile}\n{language.run}", re.M
    ):
        if not (os.path.exists(tool) and os.path.realpath(tool).startswith("/usr/")):
            return f"{tool} is missing: {language.install}"


def installed_toolchains() -> tuple[dict[str, str], dict[str, str]]:
    """({name: version line} of the languages whose tools run in the box, {name: what to install} of the others)."""
    versions, mends = {}, {}
    for name, language in LANGUAGES.items():
        if mend := why_missing(language):
            mends[name] = mend
            continue
        tool = re.sub("/usr/bin/env( \\S+=\\S+)* ", "", language.compile or language.run).split()[0]
        with tempfile.TemporaryDirectory(prefix="oorl-box-") as box:
            result = sandbox.run([tool, language.version], box, language.limits)
        line = (result.stdout + result.stderr).decode(errors="replace").strip().partition("\n")[0]
        if result.status == "OK":
            versions[name] = line
        else:
            mends[name] = f"{tool} fails in the box ({result.status}: {line}): {language.install}"
    return versions, mends


# An unclosed comment or string runs to the end, so that no source makes the search quadratic.
JAVA_NOISE = re.compile(
    r'''//[^\n]*|/\*.*?(?:\*/|\Z)|""".*?(?:"""|\Z)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?''',
    re.S,
)


def file_and_main_class(language: Language, source: str) -> tuple[str, str]:
    """(file, main class) of a program: what Java wants to know, and of Scala the object to start."""
    return java_names(source) if language.name == "java" else (language.file, scala_main(source))


def scala_main(source: str) -> str:
    """The first object that has a main or extends App."""
    text = JAVA_NOISE.sub(" ", source)
    package = re.search(r"^\s*package\s+([\w.]+)", text)
    objects = [*re.finditer(r"\bobject\s+(\w+)([^{]*)\{", text)]
    for found, following in zip(objects, [*objects[1:], None]):
        body = text[found.end() : following.start() if following else None]
        if "App" in found[2].split() or re.search(r"\bdef\s+main\b", body):
            return (package[1] + "." if package else "") + found[1]
    return "Main"


def java_names(source: str) -> tuple[str, str]:
    """(file, main class): javac wants a public class in a file of its name, java the class that holds main."""
    words = re.findall(r"[{};]|[\w$.]+", JAVA_NOISE.sub(" ", source), re.ASCII)
    depth, public, top, file, main, package = 0, False, "Main", "", "", ""
    for before, word in zip(["", *words], words):
        depth += (word == "{") - (word == "}")
        if depth == 0:
            public = word == "public" or (public and word not in "};")
            package = word + "." if before == "package" else package
            if before in ("class", "record", "enum", "interface"):
                top, file = word, file or word * public
        elif depth == 1 and (before, word) == ("void", "main"):
            main = main or top
    return f"{(file or main or 'Main')[:99]}.java", package + (main or file or "Main")
