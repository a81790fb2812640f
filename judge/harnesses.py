"""Harness problems, which are for evaluation only: from a problem and an answer to a program.

    {"id", "source_language", "target_language", "source", "harness"}   code appended to a solution
    {"name", "language", "prompt", "tests", "stop_tokens"}              a row of MultiPL-E

An answer in chat form is one fenced block: the whole function, which gets the imports and the class
of the prompt; or a program; or else the body of the function. In completion form it continues the
prompt and is cut at the first stop token.

The official rule is the usual one in the literature: the program, as MultiPL-E writes it, exits
with 0. But the answer shares a process with its judge, so exit hooks, early exits, handlers and
traps pass too. The guarded rule runs the program again with a guard: code after the last assertion
that copies a random token from stdin to stdout. The run must exit with 0 and print the token, which
stands in no file and in no argument. Assertions are rewritten where a program could replace them.

Programs that still pass the guarded rule: one that reads stdin itself and prints it; one that reads
its own source to find the expected values; one whose results are of a type that equals everything
(refused in Python, impossible in Bash, but not in C++, Java, C#, Scala and Haskell); one with
macros or names that shadow those of the guard; a trace function of Python that jumps over the
assertions. In Bash the tests have a process of their own, so that only the first is left there. The
difference between the rules is thus a lower bound of the cheating.

Left out: `go vet`, which `go test` runs first; javatuples other than Pair; tests that end after
their own last line (promises).
"""

import re

from judge.harness_table import FRONT, HARNESSES, JVM_MAIN, NEVER
from judge.languages import JAVA_NOISE, LANGUAGES, file_and_main_class

FORMS = ("chat", "completion")  # the forms of an answer to a MultiPL-E problem
MULTIPL_E = {"name": str, "language": str, "prompt": str, "tests": str, "stop_tokens": list}
# The fields of a problem, ordinary or not, on which a verdict depends.
VERDICT_FIELDS = ("target_language", "tests", "harness", "prompt", "stop_tokens")
# How MultiPL-E and others spell our names of the languages.
SPELLINGS = {tag: name for name, language in LANGUAGES.items() for tag in language.tags}
SPELLINGS["go_test.go"] = "go"

GO_IMPORTS = re.compile(r"^import\s*\((.*?)^\s*\)|^import[ \t]+([^\n(]+)$", re.M | re.S)
CLASS_IMPORTS = re.compile(r"^[ \t]*(?:import|using)\s[^\n(){}=]*\n", re.M)  # Java, C#, Scala


# ------------------------------------------------------------------------------------- problems


def is_multipl_e(row):
    return ("prompt" in row and "name" in row) or isinstance(row.get("tests"), str)


def is_harness(row):
    return "harness" in row or is_multipl_e(row)


def with_common_fields(row):
    """The row with the fields that every problem has.

    A MultiPL-E row gets its name as "id", our name of its language as "target_language" (its own
    name where we have none), and "prompt" for the source language that it lacks.
    """
    if not is_multipl_e(row) or "target_language" in row:
        return row
    spelling = row["language"].lower()
    target = SPELLINGS.get(spelling, spelling)
    return {"id": row["name"], "source_language": "prompt", "target_language": target, **row}


def unsupported_languages(problems):
    """{language: why it is left out} of the target languages that no row of LANGUAGES is for."""
    reason = f"not one of {', '.join(LANGUAGES)}"
    unsupported = {}
    for problem in problems:
        if problem["target_language"] not in LANGUAGES:
            unsupported[problem["target_language"]] = reason
    return unsupported


def chat_question(problem):
    """What a chat model is asked about a MultiPL-E problem."""
    language = LANGUAGES[problem["target_language"]]
    return (
        f"Complete this {language.display} function. Reply with one ```{language.name} block that "
        "holds the whole function and what it needs, without tests and without main.\n"
        f"```{language.name}\n{problem['prompt'].rstrip()}\n```"
    )


def continuation(problem, completion, max_bytes):
    """The code of an answer in completion form: what stands before the first stop token.

    None if it is longer than max_bytes.
    """
    positions = [completion.find(stop) for stop in problem["stop_tokens"]]
    end = min((position for position in positions if position >= 0), default=len(completion))
    code = completion[:end]
    if len(code.encode(errors="replace")) > max_bytes:
        return None
    return code


def describe_rules(rows):
    """One line on verdict rows of reward.py: how many pass by each rule, and the difference.

    Counts the answers that could be guarded; empty if no row is of a harness problem.
    """
    judged = [row for row in rows if "guarded" in row and row["verdict"] != "JE"]
    if not judged:
        return ""
    both_rules = [row for row in judged if row["guarded"] is not None]
    official = sum(row["verdict"] == "AC" for row in both_rules)
    guarded = sum(row["guarded"] for row in both_rules)
    return (
        f"official {official}, guarded {guarded}, gap {official - guarded} of {len(both_rules)}; "
        f"{len(judged) - len(both_rules)} take no guard"
    )


# ------------------------------------------------------------------------------------- programs


def program(problem, code, form, guard=False):
    """The program to run, from the code of an answer.

    guard: for the guarded rule; guarded_harness(problem) must not be None then.
    """
    harness = HARNESSES[problem["target_language"]]
    if guard:
        tests, _, front = guarded_harness(problem).partition(FRONT)
        return front + harness.prologue + _assemble(problem, code, form, tests)
    return _assemble(problem, code, form, _harness_text(problem))


def guarded_harness(problem):
    """The text of the harness with its guard; None if its shape is not known.

    This depends on the problem alone, whatever the answer.
    """
    harness = HARNESSES[problem["target_language"]]
    text = _harness_text(problem)
    for rewrite in harness.rewrites:
        text = re.sub(rewrite.pattern, rewrite.replacement, text, flags=re.M)
    guard = harness.token_rewrite
    if guard:
        text, matches = re.subn(guard.pattern, guard.replacement, text, flags=re.M)
        if matches:
            return text
    if not harness.token_code:
        return None
    position = len(text)
    if harness.main_block:
        opening = re.search(harness.main_block, text, re.M)
        closing = _closing_brace(text, opening.end()) if opening else None
        if not closing:
            return None
        # Before a last return statement, after which nothing would run.
        position = re.search(r"(?:\breturn\b[^;{}]*;\s*)?\Z", text[:closing]).start()
    head = text[:position].rstrip()
    return f"{head}\n{harness.token_code}\n{text[position:]}{harness.epilogue}\n"


def file_and_main(language, problem, text):
    """The name of a program's source file, and for the JVM the class that holds the harness,
    whatever other class has a main."""
    file, main_class = file_and_main_class(language, text)
    if "harness" in problem:
        if re.search(JVM_MAIN, problem["harness"]):
            _, main_class = file_and_main_class(language, problem["harness"])
    elif re.search(r"\b(?:class|object) Problem\b", text):
        main_class = "Problem"
    return file, main_class


def run_status(harness, result, token=b""):
    """OK, or the status of the verdict on a run. With a token: by the guarded rule."""
    if result.status == "OK":
        failed_silently = re.search(harness.failed_silently.encode(), result.stderr)
        return "WA" if failed_silently or token not in result.stdout else "OK"
    if result.status == "RE":
        if re.search(harness.assertion_failed.encode(), result.stderr + result.stdout):
            return "WA"
    return result.status


def _assemble(problem, code, form, tests):
    harness = HARNESSES[problem["target_language"]]
    if "harness" in problem:
        if harness.language.name == "php":
            code = _php_file(code)
        return f"{code}\n{tests}"
    if form == "completion":
        return f"{problem['prompt']}{code}\n{tests}"
    return _merge(problem["prompt"], code, tests, harness)


def _harness_text(problem):
    """The tests as the problem gives them; PHP's without tags, as they are appended to code."""
    text = problem["harness"] if "harness" in problem else problem["tests"]
    if problem["target_language"] == "php":
        return re.sub(r"\A\s*<\?php|\?>\s*\Z", "", text)
    return text


def _php_file(code):
    return "<?php\n" + re.sub(r"\A\s*<\?(?:php)?|\?>\s*\Z", "", code)


def _closing_brace(text, start):
    """Where the first { after start is closed; None if it is not."""
    # Comments and strings become spaces, as many as they have characters: positions stay.
    code = JAVA_NOISE.sub(lambda noise: " " * len(noise[0]), text)
    depth = 0
    for brace in re.finditer("[{}]", code[start:]):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return start + brace.start()
        if depth < 0:
            return None
    return None


# ------------------------------------------------------- chat answers to MultiPL-E problems


def _merge(prompt, block, tests, harness):
    """The prompt, the block of a chat answer and the tests in one program.

    The prompt ends within the function, and the tests begin with the } that closes it. A block that
    defines the function itself takes the place of both ends.
    """
    language = harness.language.name
    pattern = _definition_pattern(prompt, harness)
    definition = re.search(pattern, block, re.M)
    signature = re.search(pattern, prompt, re.M)
    if not (definition and signature):
        return f"{prompt}{block}\n{tests}"  # the block is the body
    tests = re.sub(r"\A\s*\}", "", tests)
    if language == "php":
        return f"{_php_file(block)}\n{tests}"
    if language == "go":
        return _merge_go(prompt, block, tests)
    preamble = prompt[: signature.start()]
    if language in ("java", "csharp", "scala"):
        return _merge_class(prompt, preamble, block, definition.start(), tests)
    return f"{preamble}{block}\n{tests}"


def _definition_pattern(prompt, harness):
    """What begins the definition of the function that the prompt asks for."""
    name_pattern = r"(\w+)\s*\([^\n]*\s*\Z"
    if harness.language.name == "python":
        name_pattern = r"\bdef\s+(\w+)"
    elif harness.language.name == "haskell":
        name_pattern = r"^(\w+)\s*::"
    names = re.findall(name_pattern, prompt, re.M)
    if not names:
        return NEVER
    return harness.function_start.replace("NAME", names[-1])


def _merge_go(prompt, block, tests):
    """Go wants all imports in front, each of them once."""
    imports = set()
    for grouped, single in GO_IMPORTS.findall(f"{prompt}\n{block}"):
        lines = f"{grouped}\n{single}".split("\n")
        imports.update(line.strip() for line in lines)
    import_lines = "\n".join(sorted(imports))
    match = re.match(r"package \w+", prompt)
    package = match[0] if match else "package main"
    code = re.sub(r"^package \w+", "", GO_IMPORTS.sub("", block), flags=re.M)
    return f"{package}\nimport (\n{import_lines}\n)\n{code}\n{tests}"


def _merge_class(prompt, preamble, block, start, tests):
    """Imports go in front. A block that brings a class of its own keeps it: the tests go into it.

    start: where the function is defined in the block.
    """
    head = block[:start]
    imports = "".join(CLASS_IMPORTS.findall(head))
    code = CLASS_IMPORTS.sub("", head) + block[start:]
    bare_head = JAVA_NOISE.sub(" ", head)
    if bare_head.count("{") > bare_head.count("}"):
        preamble = "".join(CLASS_IMPORTS.findall(prompt))
        code = code.rstrip().removesuffix("}")
    return f"{imports}{preamble}{code}\n{tests}"
