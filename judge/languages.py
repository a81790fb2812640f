"""The table of languages: how a program of each is named, compiled, run and limited in the box.

To add a language, add a row to _ROWS: a program that reads stdin and writes stdout is judged by
that alone. `python reward.py --probe` then tries it: it prints the tool's version and judges the
row's canary. A tool may also need an entry: in judge/view.py READABLE if it reads files
outside /usr, in NEEDED if its program does; in judge/sandbox.py OUT_OF_MEMORY if it has words of
its own for a lack of memory. An answer to MultiPL-E also needs a row in judge/harness_table.py; to
have the tool installed by `make toolchains`, add it to the Makefile.

To change the time limit of one language, edit `limits` (its programs) or `compile_limits` (its
compiler) in its row; the default for programs is in judge/limits.py.

A language may have several toolchains: its row is for the one that is always to be had, and
`better` says what other fields a better one has, best first. The first that is installed is taken.

Commands are split at white space; then {file} stands for the name of the source file and {main} for
its main class (Java, Scala). Every tool is an absolute path that leads to a file under /usr, the
one part of the host that the box sees; a tool that is elsewhere counts as missing.

Left out: php.ini, several source files, packages that do not come with a language (save those of
PHP_EXTENSIONS and of Haskell that `make toolchains` installs).
"""

import os
import re
import tempfile
from dataclasses import dataclass, field, replace
from glob import glob

from judge import sandbox
from judge.limits import Limits


@dataclass(frozen=True)
class Language:
    """One row of the table."""

    # Its name in problems.jsonl and in the prompt, which asks for a block with this tag. It must be
    # one of `tags`.
    name: str
    display: str  # its name in prose
    tags: set[str]  # the tags that are accepted on a block
    file: str  # the name of the source file
    run: str  # the command that runs the program
    install: str  # the command that installs the tools
    # A known-good program: it reads two numbers, one per line, and prints their sum. With " - " in
    # place of every " + " in its text, it must still compile and be a known-bad program.
    canary: str
    compile: str = ""  # the command that compiles it, if any
    beside: tuple[str, str] = ("", "")  # name and text of a second file in the box
    version: str = "--version"  # the option that makes the tool print its version
    standard: str = ""  # the version of the language that is judged, where the tool's does not tell
    # What the prompt asks for in place of `display`, where the tools are old.
    old_level: str = ""
    # What changes, field by field, with each better toolchain; the best comes first.
    better: list[dict] = field(default_factory=list)
    limits: Limits = Limits()
    compile_limits: Limits = Limits(cpu_s=10, wall_s=30, memory_bytes=1536 << 20, processes=64)


# The limits of programs whose runtime reserves much more address space than it uses and starts
# threads of its own: the virtual machines of Java, Scala, C# and JavaScript, but also the runtimes
# of Go and Haskell. RLIMIT_AS breaks the JVM and node: their flags bound the heap, and the limit on
# the resident bytes of the box bounds the rest.
VIRTUAL_MACHINE = Limits(
    cpu_s=5, wall_s=15, memory_bytes=768 << 20, processes=128, address_space=False
)
COMPILER_VM = Limits(cpu_s=15, wall_s=40, memory_bytes=1 << 30, processes=128, address_space=False)
# `make toolchains` compiles Go's standard library once: since 1.20 Go comes without it compiled,
# which costs 10 CPU seconds per program.
GO_CACHE_FOLDER = "/usr/local/share/oorl-go"
GO_CACHE = f" GOCACHE={GO_CACHE_FOLDER}" if os.path.isdir(GO_CACHE_FOLDER) else ""
GO_BUILD = (
    f"/usr/bin/env GO111MODULE=off GOTOOLCHAIN=local CGO_ENABLED=0 GOMAXPROCS=2{GO_CACHE} "
    "GO build -o a.out {file}"
)
# What `make toolchains` installs that is not in Debian.
OURS = "/usr/local/lib/oorl"
TSC = (
    "/usr/bin/tsc --target es2022 --lib esnext --module commonjs --moduleDetection force "
    "--strict false --skipLibCheck {file} "
)
NODE_TYPES = "/usr/lib/node_modules/@types"
# Debian's PHP has them in files of their own, which php.ini would load.
PHP_EXTENSIONS = "".join(
    f"-d extension={name} "
    for name in "ctype iconv mbstring bcmath gmp intl readline".split()
    if glob(f"/usr/lib/php/*/{name}.so")
)
# Those of GHC2021, the default since GHC 9.2, that programs use most.
HASKELL_EXTENSIONS = " ".join(
    f"-X{name}"
    for name in (
        "BangPatterns TupleSections ScopedTypeVariables TypeApplications TypeOperators "
        "ImportQualifiedPost NumericUnderscores BinaryLiterals FlexibleContexts FlexibleInstances "
        "MultiParamTypeClasses ConstraintKinds KindSignatures RankNTypes InstanceSigs "
        "GeneralizedNewtypeDeriving StandaloneDeriving DeriveFunctor DeriveFoldable "
        "DeriveTraversable DeriveGeneric EmptyCase NamedFieldPuns"
    ).split()
)
JAVA_RUN = (
    "/usr/bin/java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xmx256m -Xss64m -XX:-UsePerfData "
)
# The newest SDK; its compiler is called as such, as `dotnet build` takes seconds and a project.
CSC = max(glob("/usr/*/dotnet/sdk/*/Roslyn/bincore/csc.dll"), default="/usr/lib/dotnet/csc.dll")
DOTNET = CSC.partition("/sdk/")[0]
DOTNET_REFERENCES = glob(f"{DOTNET}/packs/Microsoft.NETCore.App.Ref/*/ref/*/*.dll")
# What every project of .NET 6 and later imports.
IMPLICIT_USINGS = "".join(
    f"global using System{name};\n"
    for name in (
        "",
        ".Collections.Generic",
        ".IO",
        ".Linq",
        ".Net.Http",
        ".Threading",
        ".Threading.Tasks",
    )
)


def scala_from(folder, compiler):
    """What changes with the jars of another Scala, all of them in one folder."""
    return {
        "old_level": "",
        "compile": "/usr/bin/java -Xmx512m -Xss8m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "
        f"-XX:SharedArchiveFile={folder}/cds.jsa -cp {folder}/* {compiler} "
        "-usejavacp -nowarn {file}",
        "run": f"{JAVA_RUN}-cp {folder}/*:. {{main}}",
    }


_ROWS = [
    Language(
        "python",
        "Python",
        tags={"python", "python3", "py", "py3"},
        file="p.py",
        run="/usr/bin/python3 -I {file}",
        install="apt-get install python3",
        canary="print(int(input()) + int(input()))",
    ),
    Language(
        "cpp",
        "C++",
        tags={"cpp", "c++", "cc", "cxx"},
        file="p.cpp",
        # In the folder of -I, `make toolchains` precompiles bits/stdc++.h: 0.3 s instead of 1.6.
        # g++ ignores the option if the folder is missing.
        standard="C++20",
        compile="/usr/bin/g++ -std=c++20 -O1 -pipe -fmax-errors=5 -w "
        "-I/usr/local/include/oorl {file}",
        run="./a.out",
        install="apt-get install g++",
        canary="#include <cstdio>\n"
        'int main() { int a, b; scanf("%d %d", &a, &b); printf("%d\\n", a + b); }',
    ),
    Language(
        "java",
        "Java",
        tags={"java"},
        file="Main.java",
        compile="/usr/bin/javac -proc:none -encoding UTF-8 -Xmaxerrs 5 -J-Xmx512m "
        "-J-XX:+UseSerialGC -J-XX:TieredStopAtLevel=1 -d . {file}",
        run=JAVA_RUN + "-ea {main}",
        install="apt-get install default-jdk-headless",
        canary="public class Sum { public static void main(String[] a) throws Exception {\n"
        "var in = new java.io.BufferedReader(new java.io.InputStreamReader(System.in));\n"
        "System.out.println(Integer.parseInt(in.readLine()) + Integer.parseInt(in.readLine()));"
        " } }",
        limits=VIRTUAL_MACHINE,
        compile_limits=COMPILER_VM,
    ),
    Language(
        "php",
        "PHP",
        tags={"php"},
        file="p.php",
        run=f"/usr/bin/php -n {PHP_EXTENSIONS}-d display_errors=stderr -d log_errors=0 "
        "-d memory_limit=256M {file}",
        install="apt-get install php-cli php-mbstring php-bcmath php-gmp php-intl",
        canary='<?php echo (int) fgets(STDIN) + (int) fgets(STDIN), "\\n";',
    ),
    Language(
        "bash",
        "Bash",
        tags={"bash", "sh", "shell"},
        file="p.sh",
        run="/usr/bin/bash --norc {file}",
        install="apt-get install bash",
        canary="read a; read b; echo $((a + b))",
    ),
    Language(
        "javascript",
        "JavaScript",
        tags={"javascript", "js", "node", "nodejs"},
        file="p.js",
        run="/usr/bin/node --max-old-space-size=256 {file}",
        install="apt-get install nodejs",
        canary='const [a, b] = require("fs").readFileSync(0, "utf8").split("\\n"); '
        "console.log(+a + +b);",
        limits=VIRTUAL_MACHINE,
    ),
    Language(
        "typescript",
        "TypeScript",
        tags={"typescript", "ts"},
        file="p.ts",
        # Every file is a module, so that a program may itself declare `require`. The target is what
        # node runs, so that decorators and `using` are compiled to that.
        compile=TSC + "node.d.ts",
        # Where node's types are not installed, its modules are untyped.
        beside=(
            "node.d.ts",
            "declare var require: any, process: any, console: any, Buffer: any, global: any;\n"
            "declare var setTimeout: any, setImmediate: any;\n"
            "declare module '*';\n",
        ),
        better=[
            {"compile": f"{TSC}--typeRoots {NODE_TYPES} --types node", "beside": ("", "")},
        ],
        run="/usr/bin/node --max-old-space-size=256 p.js",
        install="npm install -g --prefix /usr typescript @types/node",
        canary='const [a, b] = require("fs").readFileSync(0, "utf8").split("\\n"); '
        "console.log(+a + +b);",
        limits=VIRTUAL_MACHINE,
        compile_limits=COMPILER_VM,
    ),
    Language(
        "go",
        "Go",
        tags={"go", "golang"},
        file="p.go",
        compile=GO_BUILD.replace("GO ", "/usr/bin/go "),
        old_level="Go 1.19",  # Debian 12's
        better=[{"compile": GO_BUILD.replace("GO ", f"{OURS}/go/bin/go "), "old_level": ""}],
        run="./a.out",
        install="apt-get install golang-go",
        version="version",
        canary='package main\nimport "fmt"\n'
        "func main() { var a, b int; fmt.Scan(&a, &b); fmt.Println(a + b) }",
        limits=VIRTUAL_MACHINE,
        compile_limits=COMPILER_VM,
    ),
    Language(
        "csharp",
        "C#",
        tags={"csharp", "cs", "c#"},
        file="p.cs",
        standard="C# 6 and part of 7",
        old_level="C# 6",
        compile="/usr/bin/mcs -d:DEBUG -r:System.Numerics.dll -out:p.exe {file}",
        # Without the listener a failed Debug.Assert would exit with 0.
        run="/usr/bin/env MONO_TRACE_LISTENER=Console.Error /usr/bin/mono p.exe",
        better=[
            {
                "standard": "C# of .NET",
                "old_level": "",
                "compile": f"/usr/bin/dotnet {CSC} -nologo -langversion:latest -d:DEBUG -warn:0 "
                "-nullable:enable -out:p.dll {file} usings.cs "
                + " ".join(f"-r:{path}" for path in DOTNET_REFERENCES),
                "beside": ("usings.cs", IMPLICIT_USINGS),
                # The compiler was made for the runtime of its SDK, whose name stands there.
                "run": "/usr/bin/env DOTNET_EnableDiagnostics=0 /usr/bin/dotnet exec "
                f"--runtimeconfig {CSC.removesuffix('dll')}runtimeconfig.json p.dll",
            },
        ],
        install="apt-get install mono-mcs mono-runtime libmono-system-numerics4.0-cil "
        "libmono-system-core4.0-cil",
        canary="using System; class P { static void Main() {\n"
        "Console.WriteLine(int.Parse(Console.ReadLine()) + int.Parse(Console.ReadLine())); } }",
        limits=VIRTUAL_MACHINE,
        compile_limits=COMPILER_VM,
    ),
    Language(
        "scala",
        "Scala",
        tags={"scala", "scala2", "scala3"},
        file="p.scala",
        standard="Scala 2.11",
        old_level="Scala 2.11",
        compile="/usr/bin/scalac -J-Xmx512m -J-Xss8m -J-XX:+UseSerialGC "
        "-J-XX:TieredStopAtLevel=1 -nowarn {file}",
        run=JAVA_RUN + "-cp /usr/share/java/scala-library.jar:. {main}",
        better=[
            {"standard": "Scala 3", **scala_from(f"{OURS}/scala3", "dotty.tools.dotc.Main")},
            {"standard": "Scala 2.13", **scala_from(f"{OURS}/scala2.13", "scala.tools.nsc.Main")},
        ],
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
        tags={"haskell", "hs"},
        file="p.hs",
        compile=f"/usr/bin/ghc -O0 -v0 {HASKELL_EXTENSIONS} -o a.out {{file}}",
        run="./a.out",
        install="apt-get install ghc libghc-split-dev libghc-vector-dev "
        "libghc-unordered-containers-dev libghc-random-dev",
        canary="main :: IO ()\nmain = do { a <- readLn; b <- readLn; print (a + b :: Int) }",
        limits=replace(VIRTUAL_MACHINE, memory_bytes=512 << 20),
        compile_limits=COMPILER_VM,
    ),
]
# Finds the tools in a command: paths under /usr that begin a word.
TOOL = re.compile(r"(?:^| )(/usr/[^\s:*]+)", re.M)
ENV_PREFIX = re.compile(r"/usr/bin/env( \S+=\S+)* ")
# What Java and Scala ignore, and what their strings hold: neither must be taken for code. A comment
# or string that is not closed runs to the end, so that no source makes the search quadratic.
JAVA_NOISE = re.compile(
    r'''
      //[^\n]*                 # a comment to the end of its line
    | /\*.*?(?:\*/|\Z)          # any other comment
    | """.*?(?:"""|\Z)          # a text block
    | "(?:\\.|[^"\\\n])*"?      # a string
    | '(?:\\.|[^'\\\n])*'?      # a character
    ''',
    re.DOTALL | re.VERBOSE,
)
# What scala_main looks at: braces, objects, and what makes an object a program.
SCALA_START = re.compile(
    r"""
      [{}]
    | \bobject\s+(?P<object>\w+)
    | (?:\bextends|\bwith|,)\s+App\b
    | \bdef\s+main\s*\(\s*\w+\s*:\s*(?:scala\.)?Array\b
    | @main\s+def\s+(?P<at_main>\w+)
    """,
    re.VERBOSE,
)


def why_missing(language):
    """What to install, if a tool of the language is not under /usr; else None."""
    for tool in TOOL.findall(f"{language.compile}\n{language.run}"):
        if not (os.path.exists(tool) and os.path.realpath(tool).startswith("/usr/")):
            return f"{tool} is missing: {language.install}"
    return None


def best_installed(row):
    """The row with its best toolchain that is installed."""
    for changes in row.better:
        language = replace(row, better=[], **changes)
        if not why_missing(language):
            return language
    return row


LANGUAGES = {row.name: best_installed(row) for row in _ROWS}


def installed_toolchains(names=()):
    """({name: version line} of the languages whose tools run in the box, and of the others
    {name: why not, and what to install}).

    names: of the languages to try; by default all."""
    versions = {}
    missing = {}
    for name in names or LANGUAGES:
        language = LANGUAGES[name]
        reason = why_missing(language)
        if reason:
            missing[name] = reason
            continue
        tool = ENV_PREFIX.sub("", language.compile or language.run).split()[0]
        with tempfile.TemporaryDirectory(prefix="oorl-box-") as box:
            result = sandbox.run([tool, language.version], box, language.limits)
        output = (result.stdout + result.stderr).decode(errors="replace")
        line = output.strip().partition("\n")[0]
        if result.status == "OK":
            versions[name] = f"{language.standard}, {line}" if language.standard else line
        else:
            fault = f"{tool} fails in the box ({result.status}: {line})"
            missing[name] = f"{fault}; remove it, or install it again: {language.install}"
    return versions, missing


def file_and_main_class(language, source):
    """The name of a program's source file, and of the class to start (Java, Scala; else unused)."""
    if language.name == "java":
        return java_names(source)
    return language.file, scala_main(source)


def java_names(source):
    """(file, main class) of a Java program.

    javac wants a public class to be in a file of its name; java is given the class that has main.
    """
    words = re.findall(r"[{};]|[\w$.]+", JAVA_NOISE.sub(" ", source), re.ASCII)
    depth = 0  # the nesting depth of braces
    is_public = False  # whether `public` stands before what is declared next
    top_type = "Main"  # the top-level type that was declared last
    public_type = ""  # the first type that is public
    main_type = ""  # the first type that has a main(String...)
    other_main_type = ""  # the first type that has another main
    package = ""
    for previous, word, following in zip(["", *words], words, [*words[1:], ""]):
        if word == "{":
            depth += 1
        elif word == "}":
            depth -= 1
        if depth == 0:
            if word == "public":
                is_public = True
            elif word in ("}", ";"):
                is_public = False
            if previous == "package":
                package = word + "."
            if previous in ("class", "record", "enum", "interface"):
                top_type = word
                if is_public and not public_type:
                    public_type = word
        elif depth == 1 and previous == "void" and word == "main":
            if following.removeprefix("java.lang.").startswith(("String", "final")):
                main_type = main_type or top_type
            else:
                other_main_type = other_main_type or top_type
    main_type = main_type or other_main_type
    file = public_type or main_type or "Main"
    return f"{file[:99]}.java", package + (main_type or public_type or "Main")


def scala_main(source):
    """What starts a Scala program, with its package: the first object that has a main for Array or
    extends App, or the first @main; else "Main"."""
    text = JAVA_NOISE.sub(" ", source)
    package = re.search(r"^\s*package\s+([\w.]+)", text)
    prefix = f"{package[1]}." if package else ""
    depth = 0  # the nesting depth of braces
    top_object = "Main"  # the top-level object that was declared last
    for match in SCALA_START.finditer(text):
        if match["at_main"]:
            return prefix + match["at_main"]
        if match["object"]:
            top_object = top_object if depth else match["object"]
        elif match[0] in "{}":
            depth += 1 if match[0] == "{" else -1
        elif depth <= 1:
            return prefix + top_object
    return "Main"
