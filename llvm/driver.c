/* Runs a source (table[0]) and texts that may behave like it (table[1], ...) on the same inputs.

   Prints how many different outcomes the source has and the numbers of the inputs that decided, then
   a line for each text: on how many of them it differed, crashed, ran on endlessly, was unstable; or
   "absent" for a text that does not assemble. An input whose number is in the file `undefined` does
   not decide.

   Built with -DSCREEN, and with AddressSanitizer or MemorySanitizer, it runs the source alone on the
   inputs whose numbers are in the file `screened`, and prints those that are undefined.

   drive.py writes entry.h: what is called, and how. compare.py builds and runs this program, and
   reads what it prints.

   Two kinds of source, chosen by PROGRAM. A whole program runs in a child process for each input,
   on files for stdin and stdout. A function is called in place, on buffers in `area`.

   Both halves, with PROGRAM and without, define the same four functions. main() runs the first,
   call() the other three, one after the other:
     read_input(file, i)   read input i into pool[i]
     prepare(i, byte)      lay out input i, with all memory around it filled with `byte`
     invoke(k, byte)       call table[k] on it
     digest(byte)          a hash of all that can be seen of what it did

   prepare, invoke and digest may be left early: siglongjmp(escape, CRASHED or ENDLESS) goes back to
   the sigsetjmp in call(). A signal handler does so (a trap, a bad address), the counter of basic
   blocks does (too many steps), and digest does (a write out of bounds, a child that was killed).

   entry.h for `int last(char *s, int n)` and one text that is compared with it:

     #define POOL 768       inputs offered
     #define INPUTS 96      inputs that decide, at most
     #define ELEMENTS 32    numbers in a buffer
     #define PROGRAM 0
     #define WIDTH 33       numbers of an input: here 32 of the buffer s, then n
     #define BUFFERS 1
     #define RESULT int     type of the variable `result`
     #define FILL for (int j = 0; j < ELEMENTS; j++) ((char *)area[0].buffer)[j] = x[0 + j].i
     #define CALL result = table[k](area[0].buffer, x[32].i)
     #define DIGEST MIX(result); MIX_BUFFER(0, char)
     #define EXPOSE EXPOSE_BUFFER(0, char)
     int v0(char *, int) __asm__("v0.last") __attribute__((weak));
     int v1(char *, int) __asm__("v1.last") __attribute__((weak));
     static int (*const table[])(char *, int) = {v0, v1};
     static const char is_float[] = {0, 0, ..., 0};      of each number of an input

   The last four macros are C statements. Beside the constants above each may use only these
   variables and macros of the place where it stands:
     FILL     in prepare: x (the input), area
     CALL     in enter: k (which text), x, area, table; it sets result, unless f returns void
     DIGEST   in digest: result, and the macros MIX and MIX_BUFFER, which use hash, area and byte
     EXPOSE   in prepare: the macro EXPOSE_BUFFER, which uses area
   FILL and EXPOSE are empty if there is no buffer. A whole program uses none of the four.        */
#include <fcntl.h>
#include <malloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "entry.h"

enum {
    VALUE,     /* it returned, and left a value to compare with the source's */
    DIFFERED,  /* its value is not the source's */
    CRASHED,
    ENDLESS,   /* it ran on past its steps */
    UNSTABLE,  /* its value depends on memory that was never written */
    OUTCOMES,  /* how many there are */
    AROUND = 256,      /* bytes before and after a buffer that the code must not write */
    OUTPUT = 1 << 16,  /* bytes that a program may print */
    STEPS = 20000,     /* basic blocks of the source */
};
#ifdef SCREEN
enum { PASSES = 1 };
#else
enum { PASSES = 3 };
#endif
/* As an int: zero, negative, positive. */
static const unsigned char filling[3] = {0x00, 0xAA, 0x55};
static long long expected[POOL + 1], steps;
static sigjmp_buf escape; /* where the code under test is left for good */

/* Options of the sanitizers, where there are any. */
#define OPTIONS "abort_on_error=1:allocator_may_return_null=1:detect_leaks=0:log_path=/dev/null"
const char *__asan_default_options(void) { return OPTIONS; }
const char *__msan_default_options(void) { return OPTIONS; }
__attribute__((weak)) void __asan_poison_memory_region(const volatile void *, size_t);
__attribute__((weak)) void __asan_unpoison_memory_region(const volatile void *, size_t);

static long long mix(long long hash, const void *from, size_t bytes)
{
    for (const unsigned char *p = from, *end = p + bytes; p < end; p++)
        hash = (hash ^ *p) * 0x100000001B3ULL;
    return hash;
}

/* Every basic block of the code under test calls this. Steps are counted, not time, so that the
   load of the machine changes nothing. */
void __sanitizer_cov_trace_pc(void)
{
    if (--steps >= 0)
        return;
    if (PROGRAM)
        raise(SIGALRM);
    siglongjmp(escape, ENDLESS);
}

static const char TRAPS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, 0};

/* An assertion that fails is a trap like any other, and prints nothing. */
void __assert_fail(const char *text, const char *file, unsigned line, const char *function)
{
    abort();
}

static void on_signal(int number)
{
    siglongjmp(escape, CRASHED);
}

/* Fills the stack where the code under test will lie. Called beside enter, whose frame then covers
   smear's own, which holds more than `byte`. */
static __attribute__((noinline)) void smear(int byte)
{
    char area[1 << 15];
    memset(area, byte, sizeof area);
    __asm__ volatile("" : : "r"(area) : "memory"); /* or the compiler drops the memset */
}

#if PROGRAM

static struct {
    int size;
    char *text;
} pool[POOL];
static int in, out;

static int read_input(FILE *file, int i)
{
    if (fscanf(file, "%d", &pool[i].size) != 1)
        return 0;
    pool[i].text = malloc(pool[i].size + 1);
    fgetc(file);
    return fread(pool[i].text, 1, pool[i].size, file) == pool[i].size;
}

/* A file in the folder for temporary ones, which is not /tmp in every box. */
static int scratch(const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", name);
    return open(path, O_RDWR | O_CREAT, 0600);
}

static void prepare(int i, int byte)
{
    if (!out)
        in = scratch("in"), out = scratch("out");
    ftruncate(in, 0), ftruncate(out, 0), lseek(in, 0, SEEK_SET), lseek(out, 0, SEEK_SET);
    pwrite(in, pool[i].text, pool[i].size, 0);
}

static __attribute__((noinline)) void enter(int k)
{
    static char *arguments[] = {"a.out", 0};
    exit(table[k](1, arguments));
}

static void start(int k, int byte)
{
    for (const char *s = TRAPS; *s; s++)
        signal(*s, SIG_DFL);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){OUTPUT, OUTPUT});
    dup2(in, 0), dup2(out, 1), close(2);
    malloc(16 * byte + 16); /* other addresses, as in call() */
    smear(byte);
    enter(k);
}

static int status;

static void invoke(int k, int byte)
{
    pid_t child = fork();
    if (!child)
        start(k, byte);
    if (child < 0 || waitpid(child, &status, 0) < 0)
        _exit(3);
}

static long long digest(int byte)
{
    static char printed[OUTPUT];
    if (WIFSIGNALED(status))
        siglongjmp(escape, WTERMSIG(status) == SIGALRM ? ENDLESS : CRASHED);
    return mix(mix(0, &status, sizeof status), printed, pread(out, printed, OUTPUT, 0));
}

#else

typedef union {
    long long i;
    double d;
} word;
static word pool[POOL][WIDTH + 1];
static const word *x;
static struct {
    _Alignas(16) char before[AROUND], buffer[8 * ELEMENTS], after[AROUND];
} area[BUFFERS + 1];
static RESULT result;

static int read_input(FILE *file, int i)
{
    for (int j = 0; j < WIDTH; j++)
        if (is_float[j] ? fscanf(file, "%la", &pool[i][j].d) != 1
                        : fscanf(file, "%lld", &pool[i][j].i) != 1)
            return 0;
    return 1;
}

#define EXPOSE_BUFFER(b, type) \
    __asan_unpoison_memory_region(area[b].buffer, ELEMENTS * sizeof(type))

static void prepare(int i, int byte)
{
    x = pool[i];
    if (__asan_unpoison_memory_region)
        __asan_unpoison_memory_region(area, sizeof area);
    memset(area, byte, sizeof area);
    FILL;
    if (__asan_poison_memory_region) {
        __asan_poison_memory_region(area, sizeof area);
        EXPOSE;
    }
}

static __attribute__((noinline)) void enter(int k)
{
    CALL;
}

static void invoke(int k, int byte)
{
    smear(byte);
    enter(k);
}

/* All NaNs are one value: which bits a NaN has is not defined. */
#define MIX(v) hash = (v) != (v) ? hash * 31 + 7 : mix(hash, &(v), sizeof(v))

/* The elements are the value; a byte that changed around them is a write out of bounds. */
#define MIX_BUFFER(b, type)                                                               \
    for (int j = 0; j < ELEMENTS; j++)                                                    \
        MIX(((type *)area[b].buffer)[j]);                                                 \
    for (char *p = (char *)&area[b], *end = p + sizeof *area; p < end; p++)               \
        if ((p < area[b].buffer || p >= area[b].buffer + ELEMENTS * sizeof(type))         \
            && *p != (char)byte)                                                          \
            siglongjmp(escape, CRASHED)

static long long digest(int byte)
{
    long long hash = 0;
    if (__asan_unpoison_memory_region)
        __asan_unpoison_memory_region(area, sizeof area);
    DIGEST;
    return hash;
}

#endif

/* Runs table[k] on input i once for each filling of the memory: a value that depends on what was
   never written is UNSTABLE. Returns VALUE with *value set, or why there is none.

   sigsetjmp returns 0 when it is called. A siglongjmp below it, from whatever depth, makes it
   return a second time, with the outcome. */
static int call(int k, int i, int budget, long long *value)
{
    long long values[PASSES];
    for (volatile int pass = 0; pass < PASSES; pass++) { /* volatile: it survives the longjmp */
        int byte = filling[pass];
        volatile char room[16 * byte + 16]; /* other addresses: what depends on them is unstable */
        int outcome = sigsetjmp(escape, 1);
        room[0] = 0;
        if (outcome)
            return outcome;
        steps = budget;
        mallopt(M_PERTURB, byte);
        prepare(i, byte);
        invoke(k, byte);
        values[pass] = digest(byte);
        if (values[pass] != values[0])
            return UNSTABLE;
    }
    *value = values[0];
    return VALUE;
}

static void read_inputs(void)
{
    FILE *file = fopen("inputs", "r");
    for (const char *s = TRAPS; *s; s++)
        signal(*s, on_signal);
    for (int i = 0; i < POOL; i++)
        if (!file || !read_input(file, i))
            _exit(2);
    fclose(file); /* before a fork: a child's exit would move what it has read */
}

/* Reads numbers of inputs. Returns how many. */
static int read_numbers(const char *name, int *numbers)
{
    FILE *file = fopen(name, "r");
    int count = 0;
    while (file && count < POOL && fscanf(file, "%d", &numbers[count]) == 1)
        count++;
    if (file)
        fclose(file);
    return count;
}

#ifdef SCREEN

/* The process that runs the inputs ends at the first that is undefined; another one goes on. */
int main(void)
{
    static int numbers[POOL + 1];
    int *at = mmap(0, sizeof *at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status, count = read_numbers("screened", numbers);
    read_inputs();
    for (; *at < count; ++*at) {
        if (!fork()) {
            long long value;
            for (; *at < count; ++*at)
                if (call(0, numbers[*at], STEPS, &value) == CRASHED)
                    _exit(1);
            _exit(0);
        }
        if (wait(&status) < 0)
            return 3;
        if (status)
            dprintf(1, "%d\n", numbers[*at]);
    }
}

#else

int main(void)
{
    static int deciding[POOL + 1], numbers[POOL + 1];
    static char undefined[POOL + 1];
    int inputs = 0, outcomes = 0;
    read_inputs();
    for (int i = read_numbers("undefined", numbers); i--;)
        undefined[numbers[i]] = 1;

    for (int i = 0; i < POOL && inputs < INPUTS; i++)
        if (!undefined[i] && call(0, i, STEPS, &expected[inputs]) == VALUE) {
            int j = 0;
            while (expected[j] != expected[inputs])
                j++;
            outcomes += j == inputs;
            deciding[inputs++] = i;
        }
    dprintf(1, "%d", outcomes);
    for (int i = 0; i < inputs; i++)
        dprintf(1, " %d", deciding[i]);
    dprintf(1, "\n");

    for (int k = 1; k < sizeof table / sizeof *table; k++) {
        int count[OUTCOMES] = {0}, status = 0; /* count: inputs by outcome */
        if (!table[k]) {
            dprintf(1, "absent\n");
            continue;
        }
        if (!fork()) { /* a mutant may write where it should not, even over this loop's k */
            setrlimit(RLIMIT_CPU, &(struct rlimit){2, 2});
            for (int i = 0; i < inputs && count[ENDLESS] < 8; i++) {
                long long value = 0;
                int outcome = call(k, deciding[i], 1000000, &value);
                if (outcome == VALUE && value != expected[i])
                    outcome = DIFFERED;
                count[outcome]++;
            }
            dprintf(1, "%d %d %d %d\n", count[DIFFERED], count[CRASHED], count[ENDLESS],
                    count[UNSTABLE]);
            _exit(0);
        }
        if (wait(&status) < 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 3))
            return 3; /* no process to be had */
        if (status) /* it killed its process, or used up its CPU time */
            dprintf(1, "0 1 0 0\n");
    }
}

#endif
