"""llvm/compare.py, drive.py, inputs.py: what decides, and which behaviours are told apart."""

import random

import pytest

import llvm
from c_sources import ALIKE, BUFFERS, LOOP, WORDS, need_clang_and_sandbox, outcomes
from judge import landlock
from llvm import compare
from llvm.compare import MIN_INPUTS
from llvm.compile import has_sanitizers

need_clang_and_sandbox()

CONSTANT = "define i32 @f(i32 %a) {{\n  ret i32 {}\n}}\n"
# Texts that differ from the source only where it is undefined are equivalent to it.
EQUIVALENT_WHERE_DEFINED = [
    (
        "int f(int a) { return a / (a - 3); }",
        "define i32 @f(i32 %a) {\n  %b = sub i32 %a, 3\n  %c = icmp eq i32 %b, 0\n"
        "  %d = select i1 %c, i32 1, i32 %b\n  %e = sdiv i32 %a, %d\n  ret i32 %e\n}\n",
    ),  # division by 0
    ("int f(int a) { return a + 1 > a ? a : 7; }", CONSTANT.format("%a")),  # overflow
    ("int f(int a) { int x; if (a > 5) x = a; return x; }", CONSTANT.format("%a")),
    (
        "int f(int a) { int t[9]; if (a > 5) t[a & 7] = a; return t[a & 7]; }",
        CONSTANT.format("%a"),
    ),
    ("int f(int a) { if (a > 5) return a; }", CONSTANT.format("%a")),  # no value
]
ENDLESS = "int f(int a) { while (a != 4 && a != 5) a = a ^ 8; return 7; }"


def test_undefined_inputs_do_not_decide():
    for source, text in EQUIVALENT_WHERE_DEFINED:
        inputs, compared = outcomes(source, [text])
        assert compared == [ALIKE] and inputs >= MIN_INPUTS, source
    with pytest.raises(llvm.Rejected, match="hardly ever defined and ending"):
        outcomes(ENDLESS, [CONSTANT.format("7")])


def test_an_input_that_both_sanitizers_refuse_counts_once():
    """Or the list of those refused would be longer than the driver reads."""
    if not has_sanitizers():
        pytest.skip("no AddressSanitizer, no MemorySanitizer")
    source = """#include <stdlib.h>
    int f(int a) {
        int *p = malloc(8), b = a;
        if (p[0] == 12345) b = 0;
        if (p[2] == 12345) b = 1;
        free(p);
        return b;
    }"""
    with pytest.raises(llvm.Rejected, match="hardly ever defined and ending: on 0 of"):
        outcomes(source, [CONSTANT.format("%a")])


def test_crashing_and_endless_texts_are_told_apart():
    crash, endless, recursion, unwritten, invalid, right = [
        "define i32 @f(i32 %a) {\n  %b = sdiv i32 %a, 0\n  ret i32 %b\n}\n",
        "define i32 @f(i32 %a) {\n  br label %x\nx:\n  br label %x\n}\n",
        "define i32 @f(i32 %a) {\n  %b = call i32 @f(i32 %a)\n  %c = add i32 %b, 1\n"
        "  ret i32 %c\n}\n",
        "define i32 @f(i32 %a) {\n  %p = alloca i32\n  %b = load i32, ptr %p\n  ret i32 %b\n}\n",
        "define i32 @f(i32 %a) {\n  ret i32 %b\n}\n",
        "define i32 @f(i32 %a) {\n  ret i32 %a\n}\n",
    ]
    inputs, compared = outcomes(
        "int f(int a) { return a; }", [crash, endless, recursion, unwritten, invalid, right]
    )
    crash, endless, recursion, unwritten, invalid, right = compared
    assert crash == [0, inputs, 0, 0]
    assert endless == [0, 0, 8, 0]
    assert any(recursion[1:3]) and recursion[0] == 0
    assert unwritten == [0, 0, 0, inputs]
    assert invalid is None
    assert right == ALIKE


# What the source does where it is undefined does not decide: an input that reaches behind a buffer,
# what malloc left, no value.
UNDEFINED = [
    (
        "int f(int *a, int n) { int s = 0; for (int i = 0; i < n + 20; i++) s += a[i]; return s; }",
        True,
        "define i32 @f(ptr %a, i32 %n) {\n  ret i32 3\n}\n",
    ),
    (
        "void f(short *a, int n) { for (int i = 0; i < n + 20; i++) a[i] = i; }",
        True,
        "define void @f(ptr %a, i32 %n) {\n  ret void\n}\n",
    ),
    (
        "#include <stdlib.h>\nint f(int *a) { int *p = malloc(8), x = p[1] & 0; "
        "x += a[0] < 99 ? 7 : p[1]; free(p); return x; }",
        True,
        "define i32 @f(ptr %a) {\n  ret i32 8\n}\n",
    ),
    ("int f(int *a, int n) { return a[n + 32]; }", False, ""),
    (
        '#include <stdio.h>\nint main(void) { int x; scanf("%d", &x); printf("%d", x); return 0; }',
        True,
        "define i32 @main() {\n  ret i32 0\n}\n",
    ),
    ('#include <stdio.h>\nint main(void) { getchar(); for (;;) puts("x"); }', False, ""),
    (
        "#include <stdio.h>\nint main(void) { char b[70000]; getchar(); "
        'for (int i = 0; i < 1100; i++) printf("%65d", i); return b[0] & 0; }',
        False,
        "",
    ),
    (
        "float f(float x) { return x > 0 ? 0 / (x - x) : x; }",
        True,
        "define float @f(float %x) {\n  ret float %x\n}\n",
    ),
]


@pytest.mark.parametrize("source, decides, wrong", UNDEFINED)
def test_undefined_behaviour_of_memory_and_programs_does_not_decide(source, decides, wrong):
    if not decides:
        with pytest.raises(llvm.Rejected, match="hardly ever defined and ending"):
            outcomes(source, [])
        return
    right = llvm.winners(source, ["O1"])["O1"]
    inputs, (right_outcome, wrong_outcome) = outcomes(source, [right, wrong])
    assert inputs >= MIN_INPUTS and right_outcome == ALIKE and wrong_outcome[0] > 0


def test_what_mutants_do_to_memory_and_streams_is_seen():
    def counts(source, was, now):
        text = llvm.winners(source, ["Oz"])["Oz"]
        assert was in text, text
        inputs, (outcome,) = outcomes(source, [text.replace(was, now)])
        return [inputs, *outcome]

    inputs, differed, crashed, *_ = counts(
        "void f(int *a, int n) { for (int i = 0; i < n; i++) a[i] = i; }",
        "getelementptr inbounds i32, ptr %0",
        "getelementptr inbounds i32, ptr null",
    )
    assert crashed > inputs / 2
    inputs, differed, crashed, *_ = counts(
        "void f(int *a, int n) { a[0] = n; }",
        "store i32 %1, ptr %0",
        "%p = getelementptr i32, ptr %0, i64 40\n  store i32 %1, ptr %p",
    )
    assert crashed == inputs  # written behind a buffer
    inputs, differed, *_ = counts(
        "#include <stdio.h>\nint main(void) { putchar(getchar() & 1 ? 97 : 98); return 0; }",
        "ret i32 0",
        "ret i32 1",
    )
    assert differed == inputs  # the same text, another exit code
    inputs, _, crashed, *_ = counts(
        "#include <stdio.h>\nint main(void) { int c; while ((c = getchar()) != -1) "
        "putchar(c + 1); return 0; }",
        "icmp eq i32 %2, -1",
        "icmp eq i32 %2, -2",
    )
    assert crashed > 0  # it prints for ever: too much


def test_the_first_difference_may_be_enough():
    texts = [CONSTANT.format("%a"), CONSTANT.format("7")]
    inputs, compared = llvm.compare_with_source(
        "int f(int a) { return a; }", texts, random.Random(0), first=True
    )
    assert inputs == 96
    assert compared == [llvm.Outcome(0, 0, 0, 0), llvm.Outcome(1, 0, 0, 0)]


def test_a_text_may_take_as_long_as_its_source():
    """On a thousand inputs these few steps take seconds."""
    divisions = 30 * "s = s / 1.01 + x; "
    source = "double f(double x, int n) { double s = n; "
    source += f"for (int i = 0; i < 3500; i++) {{ {divisions} }} return s; }}"
    text = llvm.winners(source, ["O1"])["O1"]
    inputs, compared = llvm.compare_with_source(
        source, [text], random.Random(0), inputs=1000, pool=1000
    )
    assert inputs == 1000 and compared == [llvm.Outcome(0, 0, 0, 0)]


def test_what_a_text_prints_is_not_a_report():
    """The source of an edit may print nothing where the text that is compared does."""
    prints = (
        '@s = constant [11 x i8] c"\\0A0 0 0 0\\0A\\00\\00"\n'
        "define i32 @f(i32 %a) {\n  %b = call i32 @puts(ptr @s)\n  ret i32 %a\n}\n"
        "declare i32 @puts(ptr)\n"
    )
    inputs, compared = outcomes("int f(int a) { return a; }", [prints, CONSTANT.format("%a")])
    assert compared == [[inputs, 0, 0, 0], ALIKE]


def test_fresh_inputs_are_none_of_those_that_built():
    for source in (LOOP, BUFFERS, WORDS):
        built = llvm.offered_inputs(source, random.Random(0))
        again = llvm.offered_inputs(source, random.Random(0))
        assert built == again and len(set(built)) == len(built) > 100
    assert llvm.compare_with_source(source, [], random.Random(0), excluded=built) == (0, [])


# Nothing but a sanitizer sees that these are undefined: UBSan does not look at the heap, and all
# fillings of the memory that was never written give the same answer.
FOUND_BY_A_SANITIZER = [
    "int f(int n) { int *p = malloc(8); p[1] = n; int r = n; if (n > 3) free(p); "
    "r += p[1] == n; return r; }",
    "int f(int *a, int n) { return n > 3 ? n + (a[n + 32] == 1234567) : n + 7; }",
    "int f(int n) { int x[2]; if (n <= 3) x[n & 1] = n; return n + (x[n & 1] == 77); }",
]


def deciding(source):
    """How many of 64 inputs decide."""
    return llvm.compare_with_source(source, [], random.Random(0), inputs=64, pool=64)[0]


@pytest.mark.parametrize("source", FOUND_BY_A_SANITIZER)
def test_sanitizers_screen_inputs(source, monkeypatch):
    source = "#include <stdlib.h>\n" + source
    screened = deciding(source)
    monkeypatch.setattr(compare, "SANITIZERS", ())
    assert MIN_INPUTS <= screened < deciding(source)


def test_what_tells_nothing_apart_is_rejected():
    for source in (
        '#include <stdio.h>\nint main(void) { getchar(); puts("hello"); return 0; }',
        "int f(int a) { return a == a; }",
    ):
        with pytest.raises(llvm.Rejected, match="does the same on all 64 inputs"):
            deciding(source)


def test_what_depends_on_addresses_does_not_decide():
    program = "#include <stdio.h>\n#include <stdlib.h>\nint main(void) { int x = getchar(); "
    program += 'printf("%d FORMAT", x, (long)ADDRESS); return 0; }'
    for address in ("&x", "malloc(x & 7)"):
        with pytest.raises(llvm.Rejected, match="hardly ever defined"):
            deciding(program.replace("FORMAT", "%ld").replace("ADDRESS", address))
    with pytest.raises(llvm.Rejected, match="prints an address"):
        deciding(program.replace("FORMAT", "%p").replace("ADDRESS", "&x"))


def test_programs_run_in_both_kinds_of_box(monkeypatch):
    if landlock.why_not():
        pytest.skip(landlock.why_not())
    program = "#include <stdio.h>\nint main(void) { putchar(getchar() + 1); return 0; }"
    decided = deciding(program)
    monkeypatch.setenv("OORL_SANDBOX", "landlock")
    assert deciding(program) == decided


def test_to_stop_is_an_outcome_like_any_other():
    source = """#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
int f(int n) {
    if (n == 7) exit(3);
    puts("so far");
    assert(n > 3);
    return n * 2;
}
"""
    texts = [llvm.winners(source, ["Oz"])["Oz"]]
    assert texts[0].count("@abort") == 0 and "icmp sgt i32 %0, 3" in texts[0]
    for was, now in [("sgt i32 %0, 3", "sgt i32 %0, 2"), ("(i32 3)", "(i32 4)"), (" 7", " 8")]:
        assert was in texts[0]
        texts.append(texts[0].replace(was, now))
    inputs, (right, *wrong) = outcomes(source, texts)
    assert inputs == 96 and right == ALIKE
    assert all(outcome[0] > 0 for outcome in wrong)
    aborts = (
        "declare void @abort()\ndefine i32 @f(i32 %0) {\n  call void @abort()\n  ret i32 0\n}\n"
    )
    inputs, [aborted] = outcomes("int f(int n) { return n * 2; }", [aborts])
    assert aborted == [inputs, 0, 0, 0]


# What a function may take, give and leave: the text that clang makes of it does the same, and one
# with this edit does not.
SEEN = [
    (  # a list, of up to three nodes or none
        "struct node { int value; struct node *next; };\n"
        "int f(struct node *n) { int s = 1; for (; n; n = n->next) s += n->value % 5; return s; }",
        "srem i32 %6, 5",
        "srem i32 %6, 6",
    ),
    (  # by value, there and back
        "struct point { double x; int tag[3]; };\n"
        "struct point f(struct point p) { p.x = p.x * 2 + 1; p.tag[2] += 5; return p; }",
        ", 5",
        ", 6",
    ),
    (
        "typedef struct { union { double v[2]; struct { double x, y; }; }; } pair;\n"
        "pair f(pair p) { p.y += 3; return p; }",
        "3.0",
        "4.0",
    ),
    (  # not all of it written
        "struct s { int a, b[9]; }; struct s f(int n) { struct s r; r.a = n % 9; return r; }",
        "i32 %1, 9",
        "i32 %1, 8",
    ),
    (  # a table of rows, written to
        "void f(int **rows, int n) { for (int i = 0; i < n; i++) rows[i][0] = i * 7 + n; }",
        " 7",
        " 8",
    ),
    (
        "int f(int m[][4], int n) { return n ? m[n - 1][3] % 9 : 9; }",
        "srem i32 %8, 9",
        "srem i32 %8, 8",
    ),
    (  # what is allocated, by its contents
        "#include <stdlib.h>\nint *f(int n) { int *p = malloc(8 * sizeof *p); p[1] = n % 9; "
        "return p; }",
        "srem i32 %0, 9",
        "srem i32 %0, 8",
    ),
    (  # through pointers in it
        "#include <stdlib.h>\nstruct tree { int key; struct tree *left, *right; };\n"
        "struct tree *f(struct tree *t, int key) { struct tree *n = calloc(1, sizeof *n); "
        "n->key = key % 9; if (!t) return n; t->left = n; return t; }",
        "srem i32 %1, 9",
        "srem i32 %1, 8",
    ),
    (  # what it frees is gone, what it was given grows
        "#include <stdlib.h>\nstruct node { int value; struct node *next; };\n"
        "struct node *f(struct node *n) { while (n && n->value % 5) { struct node *m = n->next; "
        "free(n); n = m; } return n; }",
        "i32 %5, 5",
        "i32 %5, 6",
    ),
    (
        "#include <stdlib.h>\nint *f(int *a, int n) { a = realloc(a, 40 * sizeof *a); "
        "a[35] = n % 9; return a; }",
        "i32 %1, 9",
        "i32 %1, 8",
    ),
    ('const char *f(int n) { return n % 2 ? "odd" : "even"; }', "odd", "Odd"),
    (
        "const char *f(int n) { static char text[3]; text[0] = 97 + (n & 3); return text; }",
        "97",
        "98",
    ),
    (  # what is printed, and variables
        '#include <stdio.h>\nvoid f(int n) { printf("%d,", n / 7); }',
        "i32 %0, 7",
        "i32 %0, 8",
    ),
    ("int total[2]; void f(int n) { total[n & 1] = n % 9; }", "srem i32 %0, 9", "srem i32 %0, 8"),
    (  # which start anew in each call
        "static int calls; int f(int n) { calls++; return n % 9 + calls * 5; }",
        "srem i32 %0, 9",
        "srem i32 %0, 8",
    ),
    (  # which draw numbers from a generator that starts anew, too
        "#include <stdlib.h>\nint f(int n) { return rand() % 7 + n % 9; }",
        "srem i32 %2, 7",
        "srem i32 %2, 8",
    ),
    (
        "#include <stdlib.h>\nlong f(unsigned seed) { srand(seed); srandom(rand()); "
        "return random() % 9; }",
        ", 9",
        ", 8",
    ),
    (  # what it calls back with
        "void f(void (*visit)(int), int n) { for (int i = 0; i < (n & 7); i++) visit(i * 7); }",
        ", 7\n  call",
        ", 6\n  call",
    ),
    (  # and in which order
        "int f(int (*g)(int, int), long (*h)(void), int a) "
        "{ return g(a % 9, 1) + h() % 100 + g(a % 9, 2); }",
        "(i32 %4, i32 2)",
        "(i32 2, i32 %4)",
    ),
    (  # and what it gets
        "#include <stdlib.h>\nint f(int *a, int n, int (*order)(const void *, const void *)) "
        "{ qsort(a, n, sizeof *a, order); return n % 9; }",
        "i64 4",
        "i64 8",
    ),
    (
        "double f(double (*g)(double), double x) { return g(x) * 2 + g(x + 1); }",
        "1.0",
        "2.0",
    ),
    (  # in a struct, in a table, and with pointers
        "struct cell { char tag; double value; };\n"
        "struct visitor { void *(*map)(void *); int (*better)(struct cell *, struct cell *); };\n"
        "int f(struct visitor v, _Bool (*is_good[])(char *), struct cell *c, char *s) { if (!c) "
        "return 0; return v.better(c, c) % 9 + is_good[0](v.map(s)) * 5; }",
        ", 9",
        ", 8",
    ),
]


@pytest.mark.parametrize("source, was, now", SEEN)
def test_what_functions_take_give_and_leave_is_seen(source, was, now):
    text = llvm.winners(source, ["O1"])["O1"]
    assert was in text, text
    inputs, (right, wrong) = outcomes(source, [text, text.replace(was, now)])
    assert inputs == 96 and right == ALIKE
    assert sum(wrong[:3]) > 0


def test_a_wild_source_does_not_change_what_others_see():
    """Where it is undefined it writes anywhere; in the driver's own memory that once decided."""
    source = """void f(int *a, int n, int k, int bubble, int changed) {
    if (k == n - 1 - bubble) { if (changed) f(a, n, 0, bubble + 1, 0); return; }
    if (a[k] > a[k + 1]) { int t = a[k]; a[k] = a[k + 1]; a[k + 1] = t; changed++; }
    f(a, n, k + 1, bubble, changed);
}
"""
    text = llvm.winners(source, ["O0"])["O0"]
    for seed in range(3):
        assert outcomes(source, [text], seed)[1] == [ALIKE]


def test_heap_that_was_never_written_is_not_compared():
    """It is no undefined behaviour to return it, and what the optimiser leaves there is chance."""
    source = "#include <stdlib.h>\nint *f(int n) { int *p = malloc(12); p[n & 1] = n; return p; }"
    written = source.replace("return p", "p[2] = 3; return p")
    text, other = [llvm.winners(one, ["O1"])["O1"] for one in (source, written)]
    inputs, (right, wrong) = outcomes(source, [text, other])
    assert inputs == 96 and right == ALIKE and wrong[0] == 96


def test_domains_that_are_mostly_undefined_are_narrowed():
    for source in (
        "int f(int n) { int s = n; for (int i = 0; i < n; i++) s = s * 5 % 97; "
        "return n > 9 ? *(int *)0 : s; }",
        '#include <stdio.h>\nint main(void) { int n, m, k; scanf("%d %d %d", &n, &m, &k); '
        'printf("%d", n > 9 || m > 9 || k > 9 || n + m + k < 0 ? *(int *)0 : n + m + k); }',
    ):
        right = llvm.winners(source, ["O0"])["O0"]
        inputs, (outcome,) = outcomes(source, [right])
        assert inputs >= MIN_INPUTS and outcome == ALIKE
