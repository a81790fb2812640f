"""What a box sees of the host's files.

While a program is compiled: READABLE, which is all of /usr, without the interpreters in /usr/bin
that its compiler does not need, so that they cannot be built into it. While it runs (`bare`): its
own tool and what that needs, so that an answer which wraps its source finds no tool of another
language to run it. A bash program sees /usr/bin, without the interpreters in it.

Left out: what a tool can do by itself. docs/judge.md lists it.
"""

import functools
import glob
import json
import os
import re
from dataclasses import dataclass

from judge.limits import SandboxError

# What a box may see of the host: /usr, and what programs in /usr need from elsewhere. A tool of a
# new language may need an entry here.
READABLE = ["/usr", *filter(os.path.exists, ["/var/lib/ghc"])]
READABLE += [
    f"/etc/{name}"
    for name in os.listdir("/etc")
    if re.match("alternatives|ld.so.cache|java|mono", name)
]
# What any program may need of that while it runs; patterns of glob(7).
LIBRARIES = ["/etc/alternatives", "/etc/ld.so.cache", "/usr/lib/*-linux-*", "/usr/lib64"]
LIBRARIES += ["/usr/lib/locale", "/usr/share/zoneinfo"]
# What a tool needs besides, unless it is installed in a folder of its own.
NEEDED = {
    "bash": ["/usr/bin"],
    "python3": ["/usr/lib/python3*", "/usr/local/lib/python3*"],
    "php": ["/usr/lib/php"],
    "node": ["/usr/share/nodejs"],
    "java": ["/etc/java*"],
    "runghc": ["/usr/bin", "/usr/lib/ghc", "/var/lib/ghc"],  # a script
    "mono": ["/etc/mono*", "/usr/lib/mono", "/usr/lib/lib[mM]ono*.so"],
}
# Names of the tools in /usr/bin that run programs of another language all by themselves. Others,
# such as gcc, lack the rest of /usr.
INTERPRETER = re.compile(
    r"(python|pypy|perl|node|nodejs|deno|bun|qjs|php|ruby|lua|luajit|tclsh|wish|mono|dotnet|tcc|"
    r"gdb)[-.\d]*(-.*-linux-gnu)?"
)
BASH = list(filter(os.path.isfile, ["/usr/bin/bash"]))
# Tools that are scripts, and the interpreters that run them.
SCRIPTS = {"tsc": ["/usr/bin/node"], "mcs": ["/usr/bin/mono"], "scalac": ["/usr/bin/bash"]}
# An environment variable, so that worker processes inherit it: folders to hide, as in PATH.
HIDDEN_VARIABLE = "OORL_HIDDEN_FOLDERS"
# Folders that a box cannot do without.
SYSTEM = re.compile(r"/usr(/local)?(/(bin|sbin|lib\w*|share|include))?")


@dataclass(frozen=True)
class View:
    """Paths of the host, each shown where it is."""

    shown: tuple[str, ...]  # files, and folders with all that is in them
    hidden: tuple[str, ...] = ()  # what is in those and still not shown
    links: tuple[tuple[str, str], ...] = ()  # (file, another name that it needs)


def hide(*folders):
    """Hides folders, such as that of the problems, from all boxes of this process and its workers.

    Raises SandboxError for a folder that boxes need.
    """
    hidden = _hidden_folders()
    for folder in map(os.path.realpath, folders):
        if SYSTEM.fullmatch(folder):
            raise SandboxError(f"programs may read all of {folder}: keep what is yours elsewhere")
        hidden.add(folder)
    os.environ[HIDDEN_VARIABLE] = json.dumps(list(hidden))


def _hidden_folders():
    return set(json.loads(os.environ.get(HIDDEN_VARIABLE) or "[]"))


def view(command, bare):
    """The View of a command."""
    tools = re.findall(r"/usr/[^\s:=]+", " ".join(command))
    if bare:
        seen = _bare_view(("/usr/bin/prlimit", *tools))
    else:
        seen = View(_without_nested(READABLE), _not_needed(tuple(tools)))
    folders = []
    for folder in sorted(_hidden_folders()):
        if os.path.isdir(folder) and any(folder.startswith(f"{path}/") for path in seen.shown):
            folders.append(folder)
    return View(seen.shown, (*seen.hidden, *folders), seen.links)


@functools.cache
def _not_needed(tools):
    """The interpreters that these tools can do without."""
    needed = list(tools)
    for tool in tools:
        needed += SCRIPTS.get(os.path.basename(tool), [])
    own = set(map(os.path.realpath, [*needed, "/bin/sh"]))
    return tuple(path for path in (*_interpreters(), *BASH) if os.path.realpath(path) not in own)


@functools.cache
def _bare_view(tools):
    patterns = list(LIBRARIES)
    if os.path.exists("/usr/lib/libc.so.6"):  # some distributions keep all libraries there
        patterns.append("/usr/lib")
    links = []
    for tool in tools:
        file = os.path.realpath(tool)
        patterns.append(_home(file))
        patterns += NEEDED.get(os.path.basename(tool), [])
        if file != tool:
            links.append((file, tool))
    paths = sum(map(glob.glob, patterns), [])
    if "/usr/bin" in paths:
        return View(_without_nested(paths), _interpreters())
    return View(_without_nested(paths), links=tuple(links))


def _without_nested(paths):
    return tuple(path for path in sorted(set(paths)) if os.path.dirname(path) not in paths)


def _home(file):
    """The folder in which a tool is installed; the file alone if it shares that with others."""
    if file.endswith("/*"):  # all jars of a folder
        return os.path.dirname(file)
    folder = os.path.dirname(file).removesuffix("/bin")
    if folder in ("/usr", "/usr/local") or not os.access(file, os.X_OK):
        return file
    return folder


def _interpreters():
    """The files of the interpreters in /usr/bin, by whatever other names they have."""
    with os.scandir("/usr/bin") as entries:
        files = [entry for entry in entries if os.path.isfile(entry)]
    found = {entry.stat().st_ino for entry in files if INTERPRETER.fullmatch(entry.name)}
    paths = []
    for entry in files:
        if entry.stat().st_ino in found and not entry.is_symlink():
            paths.append(entry.path)
    return tuple(paths)


def bwrap_arguments(seen):
    """The arguments of bwrap that show a View."""
    arguments = []
    for path in seen.shown:
        arguments += ["--ro-bind", path, path]
    for file, name in seen.links:
        arguments += ["--symlink", file, name]
    for path in seen.hidden:
        if os.path.isdir(path):
            arguments += ["--size", "4096", "--tmpfs", path, "--remount-ro", path]
        else:
            arguments += ["--ro-bind", "/dev/null", path]
    return arguments


@functools.cache
def without_hidden(seen):
    """The files and folders of a View that hold nothing hidden. A way to name it without mounts."""
    hidden = set(seen.hidden)
    around = set()  # the folders above what is hidden
    for path in hidden:
        while (path := os.path.dirname(path)) not in around and path != "/":
            around.add(path)
    left = list(seen.shown)
    paths = []
    while left:
        path = left.pop()
        if path in hidden:
            continue
        if path not in around:
            paths.append(path)
            continue
        with os.scandir(path) as entries:
            left += [entry.path for entry in entries if not entry.is_symlink()]
    return paths
