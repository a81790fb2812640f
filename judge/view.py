"""What a box sees of the host's files.

While a program is compiled: READABLE, which is all of /usr. While it runs (`bare`): its own tool
and what that needs, so that an answer which wraps its source finds no tool of another language to
run it. A bash program sees /usr/bin, without the interpreters in it.

Left out: what a tool can do by itself. docs/judge.md lists it.
"""

import functools
import glob
import os
import re

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
# An environment variable, so that worker processes inherit it: folders to hide, as in PATH.
HIDDEN_VARIABLE = "OORL_HIDDEN_FOLDERS"
# Folders that a box cannot do without.
SYSTEM = re.compile(r"/usr(/local)?(/(bin|sbin|lib\w*|share|include))?")


def hide(*folders):
    """Hides folders, such as that of the problems, from all boxes of this process and its workers.

    Raises SandboxError for a folder that boxes need.
    """
    hidden = _hidden()
    for folder in map(os.path.realpath, folders):
        if SYSTEM.fullmatch(folder):
            raise SandboxError(f"programs may read all of {folder}: keep what is yours elsewhere")
        hidden.add(folder)
    os.environ[HIDDEN_VARIABLE] = os.pathsep.join(hidden)


def _hidden():
    return set(filter(None, os.environ.get(HIDDEN_VARIABLE, "").split(os.pathsep)))


def arguments(command, bare):
    """The arguments of bwrap that show a command the files of the host."""
    shown = _bind(READABLE)
    if bare:
        tools = re.findall(r"/usr/[^\s:=]+", " ".join(command))
        shown = _bare_arguments(("/usr/bin/prlimit", *tools))
    hides = []
    for folder in _hidden():
        if os.path.isdir(folder) and any(folder.startswith(f"{path}/") for path in shown):
            hides += ["--size", "4096", "--tmpfs", folder, "--remount-ro", folder]
    return [*shown, *hides]


@functools.cache
def _bare_arguments(tools):
    patterns = list(LIBRARIES)
    if os.path.exists("/usr/lib/libc.so.6"):  # some distributions keep all libraries there
        patterns.append("/usr/lib")
    links = []
    for tool in tools:
        file = os.path.realpath(tool)
        patterns.append(_home(file))
        patterns += NEEDED.get(os.path.basename(tool), [])
        if file != tool:
            links += ["--symlink", file, tool]
    paths = sum(map(glob.glob, patterns), [])
    if "/usr/bin" in paths:
        return [*_bind(paths), *_hide_interpreters()]
    return [*_bind(paths), *links]


def _bind(paths):
    """Shows each path where it is."""
    binds = []
    for path in sorted(set(paths)):
        if os.path.dirname(path) not in paths:
            binds += ["--ro-bind", path, path]
    return binds


def _home(file):
    """The folder in which a tool is installed; the file alone if it shares that with others."""
    folder = os.path.dirname(file).removesuffix("/bin")
    if folder in ("/usr", "/usr/local") or not os.access(file, os.X_OK):
        return file
    return folder


def _hide_interpreters():
    """Puts an empty file over each interpreter in /usr/bin, whatever other names it has."""
    with os.scandir("/usr/bin") as entries:
        files = [entry for entry in entries if os.path.isfile(entry)]
    found = {entry.stat().st_ino for entry in files if INTERPRETER.fullmatch(entry.name)}
    hides = []
    for entry in files:
        if entry.stat().st_ino in found and not entry.is_symlink():
            hides += ["--ro-bind", "/dev/null", entry.path]
    return hides
