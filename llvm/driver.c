/* Runs a source (table[0]) and texts that may behave like it (table[1], ...) on the same inputs.

   Prints how many different outcomes the source has and the numbers of the inputs that decided, then
   a line for each text: on how many of them it differed, crashed, ran on endlessly, was unstable; or
   "absent" for a text that does not assemble. An input whose number is in the file `undefined` does
   not decide. Given a number, it stops after the first line, which is then of so many inputs.

   Built with -DSCREEN, and with AddressSanitizer or MemorySanitizer, it runs the source alone on the
   inputs whose numbers are in the file `screened`, and prints those that are undefined.

   drive.py writes entry.h: what is called, and how. compare.py builds and runs this program, and
   reads what it prints.

   A function is called with what FILL builds in areas of memory and in arg0, arg1 and so on. A whole
   program is its function main; what it reads (READS) is in a file, and in argv (ARGV). A child
   process runs each call (FORK): what it does to memory, streams and variables ends with it. Only a
   function that computes with numbers alone is called in place.

   main() runs read_inputs and then call() for each text and input. That runs
     prepare(i, byte)      lay out input i, with all memory around it filled with `byte`
     attempt(k, byte)      in a child or in place:
       enter(k)              call table[k] on it
       digest(k, byte)       see all that can be seen of what it did, other than what it printed

   prepare, enter and digest may be left early, by leave(CRASHED or ENDLESS): a child ends, and in
   place siglongjmp goes back to the sigsetjmp in call(). A signal handler does so (a trap, a bad
   address), the counter of basic blocks (too many steps), and digest (a write out of bounds).

   What is seen goes into seen[pass], byte for byte. What differs between the passes depends on
   memory that was never written. In the heap, and in a struct that is returned, that is allowed: a
   source need not write all of it. Such a byte counts as unwritten. Elsewhere it is UNSTABLE.

   entry.h for `int last(char *s, int n)` and one text that is compared with it:

     #define POOL 768       inputs offered
     #define INPUTS 96      inputs that decide, at most
     #define STEPS 20000    basic blocks in which the source must end
     #define FIRST 0        whether the first input on which a text differs is enough
     #define FORK 1
     #define READS 0
     #define ARGV 0
     #define FREES 0        whether an area may have to come from malloc
     #define WIDTH 33       numbers of an input: here 32 of the buffer s, then n
     #define BUFFERS 1      areas
     #define ROOM 32        bytes of the largest area
     #define BY_VALUE 0     whether the result is a struct
     #define RESULT int     type of the variable `result`
     #define FILL arg0 = at[0]; \
                  for (int j = 0; j < 32; j++) ((char *)at[0])[j] = x[0 + j].i; \
                  arg1 = x[32].i
     #define CALL result = table[k](arg0, arg1)
     #define CODE 0         with which a child exits
     #define DIGEST see_0(&result); see_area(0, see_1, sizeof(char), 32)
     static void see_0(void *p) { SEE(*(int *)p); }
     static void see_1(void *p) { SEE(*(char *)p); }
     static void *arg0;
     static int arg1;
     int v0(void *, int) __asm__("v0.last") __attribute__((weak));
     int v1(void *, int) __asm__("v1.last") __attribute__((weak));
     static int (*const table[])(void *, int) = {v0, v1};
     static void *const variables[][1] = {{}, {}};       addresses of each text's global variables
     static const int area_bytes[] = {32 * sizeof(char)};

   FILL, CALL and DIGEST are C statements.                                                         */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What entry.h sees with. A NaN is one value: which bits it has is not defined. */
#ifdef SCREEN
#define SEE(v) see(&(v), &(v), sizeof(v))
#else
#define SEE(v) see((v) != (v) ? (void *)not_a_number : &(v), &(v), sizeof(v))
#endif
static const char not_a_number[8] = "nan nan";
static void see(const void *value, const void *place, size_t bytes);
static void see_all(void (*see_one)(void *), void *first, size_t bytes, size_t count);
static void see_pointer(void *place, size_t bytes, void (*see_target)(void *));
static double called_back(int kind, int count, const double *argument);
typedef union {
    long long i;
    double d;
} word;
static const word *x; /* the input */
#include "entry.h"

enum { AROUND = 256 }; /* bytes before and after a buffer that the code must not write */
static struct {
    _Alignas(16) char before[AROUND], buffer[ROOM], after[AROUND];
} area[BUFFERS + 1];
static RESULT result;
static char *at[BUFFERS + 1]; /* where the areas are: there, or in the heap */

enum {
    VALUE,     /* it returned, and left a value to compare with the source's */
    DIFFERED,  /* its value is not the source's */
    CRASHED,
    ENDLESS,   /* it ran on past its steps */
    UNSTABLE,  /* its value depends on memory that was never written */
    OUTCOMES,  /* how many there are */
    OUTPUT = 1 << 16,  /* bytes that a program may print */
    SEEN = 1 << 18,    /* bytes that are seen of a call */
    BLOCK = 1 << 16,   /* bytes of the largest block of the heap */
    BLOCKS = 4096,     /* of the heap, at a time */
    PATIENCE = STEPS > 500000 ? 2 * STEPS : 1000000, /* as STEPS, of a text */
    ARGUMENTS = 8,     /* of a program, with its name */
    STOPPED = 134,     /* exit code of a child that aborted */
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
static int is_child;
static volatile int pass;
static struct {
    int size;
    unsigned char byte[SEEN], may_lack[SEEN];
} *seen; /* by each pass; shared with the children */

/* Options of the sanitizers, where there are any. */
#define OPTIONS "allocator_may_return_null=1:max_allocation_size_mb=1:detect_leaks=0:log_path=/dev/null"
const char *__asan_default_options(void) { return OPTIONS; }
const char *__msan_default_options(void) { return OPTIONS; }
__attribute__((weak)) void __asan_poison_memory_region(const volatile void *, size_t);
__attribute__((weak)) void __asan_unpoison_memory_region(const volatile void *, size_t);
__attribute__((weak)) void __sanitizer_set_death_callback(void (*)(void));

static long long mix(long long hash, const void *from, size_t bytes)
{
    for (const unsigned char *p = from, *end = p + bytes; p < end; p++)
        hash = (hash ^ *p) * 0x100000001B3ULL;
    return hash;
}

static void leave(int outcome)
{
    if (is_child)
        kill(getpid(), outcome == ENDLESS ? SIGALRM : SIGKILL);
    siglongjmp(escape, outcome);
}

/* Every basic block of the code under test calls this. Steps are counted, not time, so that the
   load of the machine changes nothing. */
void __sanitizer_cov_trace_pc(void)
{
    if (--steps < 0)
        leave(ENDLESS);
}

static const char TRAPS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, 0};

static void on_signal(int number)
{
    leave(CRASHED);
}

static void on_death(void)
{
    kill(getpid(), SIGKILL);
}

/* To stop is something that a source may do, and an outcome like any other. */
void abort(void)
{
    if (is_child)
        _exit(STOPPED);
    leave(CRASHED);
    __builtin_unreachable();
}

void __assert_fail(const char *text, const char *file, unsigned line, const char *function)
{
    abort();
}

#ifndef SCREEN

/* The heap knows its blocks, so that it is known what a pointer leads to; what is left of a call is
   freed before the next. A large block is refused, as where there is no memory. */
static struct {
    char *start;
    size_t size;
    int is_seen;
} block[BLOCKS];
static int blocks, is_running; /* is_running: the code under test, not the driver itself */

void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
void __libc_free(void *);

static int is_refused(size_t size)
{
    return is_running && (size > BLOCK || blocks == BLOCKS);
}

/* Notes a block. Its bytes from `from` on are new. */
static void *noted(void *start, size_t size, size_t from)
{
    if (!start || !is_running)
        return start;
    if (size > from)
        memset((char *)start + from, filling[pass], size - from);
    block[blocks].start = start, block[blocks].size = size, block[blocks++].is_seen = 0;
    return start;
}

/* Returns the size that the block had. */
static size_t forget(void *start)
{
    for (int b = blocks; b--;)
        if (block[b].start == start) {
            size_t size = block[b].size;
            block[b] = block[--blocks];
            return size;
        }
    return 0;
}

void *malloc(size_t size)
{
    return is_refused(size) ? 0 : noted(__libc_malloc(size), size, 0);
}

void *calloc(size_t count, size_t size)
{
    if (is_refused(size) || size && is_refused(count > BLOCK / size ? -1 : 0))
        return 0;
    return noted(__libc_calloc(count, size), count * size, count * size);
}

void *realloc(void *old, size_t size)
{
    if (is_refused(size))
        return 0;
    size_t before = forget(old);
    return noted(__libc_realloc(old, size), size, before);
}

void free(void *start)
{
    memset(start, filling[pass], forget(start));
    __libc_free(start);
}

static int is_in(const char *p, int b)
{
    return p >= block[b].start && p < block[b].start + block[b].size;
}

static int block_of(const char *p)
{
    static int last; /* the next one is often there, or after it */
    for (int b = last; b < blocks && b < last + 2; b++)
        if (is_in(p, b))
            return last = b;
    for (int b = blocks; b--;)
        if (is_in(p, b))
            return last = b;
    return -1;
}

static void clear_heap(void)
{
    is_running = 1;
    while (blocks)
        __libc_free(block[--blocks].start);
}

#endif

/* operator new and delete of C++; there are no exceptions. */
void *_Znwm(size_t size)
{
    void *start = malloc(size);
    if (!start)
        abort();
    return start;
}

void *_Znam(size_t size)
{
    return _Znwm(size);
}

void _ZdlPv(void *start)
{
    free(start);
}

void _ZdlPvm(void *start, size_t size)
{
    free(start);
}

void _ZdaPv(void *start)
{
    free(start);
}

void _ZdaPvm(void *start, size_t size)
{
    free(start);
}

/* Adds a value to what is seen of this pass. place: where it was found. */
static void see(const void *value, const void *place, size_t bytes)
{
    int size = seen[pass].size;
    int may_lack = BY_VALUE && place >= (void *)&result && place < (void *)(&result + 1);
    if (bytes > SEEN - size)
        leave(CRASHED);
#ifdef SCREEN
    if (!may_lack && mix(0, value, bytes) == 42) /* MemorySanitizer looks at what decides */
        size = seen[pass].size;
#else
    may_lack |= block_of(place) >= 0;
#endif
    memcpy(seen[pass].byte + size, value, bytes);
    memset(seen[pass].may_lack + size, may_lack, bytes);
    seen[pass].size += bytes;
}

static void see_all(void (*see_one)(void *), void *first, size_t bytes, size_t count)
{
    for (size_t j = 0; j < count; j++)
        see_one((char *)first + j * bytes);
}

/* Sees where a pointer leads, not its address: that is left to chance. To nothing: 0; into an
   area: which and where; to a constant or a variable: its text, if it is one; into the heap: the
   rest of that block, unless it was seen. */
static void see_pointer(void *place, size_t bytes, void (*see_target)(void *))
{
    extern char __executable_start[], end[];
    char *p = *(char **)place;
    long long kind = p ? 1 : 0;
    for (int b = 0; b < BUFFERS; b++)
        if (p >= at[b] && p < at[b] + area_bytes[b])
            kind = 2 + b * ROOM + (p - at[b]);
    see(&kind, place, sizeof kind);
    if (kind == 1 && p >= __executable_start && p < end && bytes == 1)
        see(p, place, strnlen(p, end - p));
#ifndef SCREEN
    int b = block_of(p);
    if (b >= 0 && kind == 1 && see_target && !block[b].is_seen) {
        block[b].is_seen = 1;
        see_all(see_target, p, bytes, (block[b].start + block[b].size - p) / bytes);
    }
#endif
}

/* Sees the values in an area, unless it was freed. */
static void see_area(int b, void (*see_one)(void *), size_t bytes, size_t count)
{
#ifdef SCREEN
    int is_there = !FREES;
#else
    int is_there = !FREES || block_of(at[b]) >= 0;
#endif
    see(&is_there, &is_there, sizeof is_there);
    if (is_there)
        see_all(see_one, at[b], bytes, count);
}

/* What a callback of this kind returns for its arguments, which end with two zeros. The call is
   seen: so the order of calls, and what they are given, belong to the behaviour. */
static double called_back(int kind, int count, const double *argument)
{
    double mixed = count ? 0 : seen[pass].size; /* without arguments, each call gives another */
    see(&kind, &kind, sizeof kind);
    for (int j = 0; j < count; j++) {
        SEE(argument[j]);
        mixed = 3 * mixed + argument[j];
    }
    if (kind == 0)
        return (argument[0] > argument[1]) - (argument[0] < argument[1]);
    if (kind == 1)
        return argument[1] - argument[0];
    return (long long)mixed & 15;
}

/* A hash of what all passes saw. Returns VALUE or UNSTABLE. */
static int compare_passes(long long *value)
{
    *value = 0;
    for (int j = 0; j < seen[0].size; j++) {
        int byte = seen[0].byte[j], unwritten = 0;
        for (int other = 1; other < PASSES; other++) {
            if (seen[other].size != seen[0].size)
                return UNSTABLE;
            if (seen[other].byte[j] != byte)
                unwritten = 1;
        }
        if (unwritten && !seen[0].may_lack[j])
            return UNSTABLE;
        *value = mix(*value, &(int){unwritten ? 256 : byte}, sizeof(int));
    }
    return VALUE;
}

/* Fills the stack where the code under test will lie. Called beside enter, whose frame then covers
   smear's own, which holds more than `byte`. */
static __attribute__((noinline)) void smear(int byte)
{
    char area[1 << 15];
    memset(area, byte, sizeof area);
    __asm__ volatile("" : : "r"(area) : "memory"); /* or the compiler drops the memset */
}

/* The inputs as drive.py writes them. They are a mapped file: a fork copies no page of it. */
static const struct {
    word numbers[WIDTH];
    long long start, size; /* of the text that is read, behind all inputs; it ends with 0 */
} *pool;
static int in, out; /* files */

static const char *text_of(int i)
{
    return (const char *)(pool + POOL) + pool[i].start;
}

/* A file in the folder for temporary ones, which is not /tmp in every box. */
static int scratch(const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", name);
    return open(path, O_RDWR | O_CREAT, 0600);
}

/* The words of a text as a program's arguments. Returns how many there are. */
static int arguments(const char *text, char **argv)
{
    static char words[1 << 16];
    int argc = 1;
    strncpy(words, text, sizeof words - 1);
    for (char *word = strtok(words, " \n"); word && argc < ARGUMENTS; word = strtok(0, " \n"))
        argv[argc++] = word;
    argv[argc] = 0;
    return argc;
}

static void prepare(int i, int byte)
{
    static char *argv[ARGUMENTS + 1] = {"a.out"};
    int argc = ARGV ? arguments(text_of(i), argv) : 1;
    x = pool[i].numbers;
    if (READS)
        ftruncate(in, 0), pwrite(in, text_of(i), pool[i].size, 0);
    if (__asan_unpoison_memory_region)
        __asan_unpoison_memory_region(area, sizeof area);
    memset(area, byte, sizeof area);
    for (int b = 0; b < BUFFERS; b++)
        at[b] = FREES ? malloc(area_bytes[b]) : area[b].buffer;
    FILL;
    if (__asan_poison_memory_region) {
        __asan_poison_memory_region(area, sizeof area);
        for (int b = 0; b < BUFFERS; b++)
            __asan_unpoison_memory_region(area[b].buffer, area_bytes[b]);
    }
}

static __attribute__((noinline)) void enter(int k)
{
    CALL;
}

/* A byte that changed around a buffer is a write out of bounds. */
static void digest(int k, int byte)
{
    if (__asan_unpoison_memory_region)
        __asan_unpoison_memory_region(area, sizeof area);
    for (int b = 0; b < BUFFERS; b++)
        for (int j = 0; j < AROUND; j++)
            if (area[b].before[j] != (char)byte || area[b].buffer[area_bytes[b] + j] != (char)byte)
                leave(CRASHED);
    DIGEST;
}

static void attempt(int k, int byte)
{
    static int status;
    pid_t child = FORK ? fork() : 0;
    if (FORK && !child) {
        is_child = 1;
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){OUTPUT, OUTPUT});
        dup2(in, 0), dup2(out, 1), close(2);
        malloc(16 * byte + 16); /* other addresses, as in call() */
    }
    if (!child) {
        smear(byte);
        enter(k);
        digest(k, byte);
    }
    if (FORK && !child)
        exit(CODE);
    if (child < 0 || child && waitpid(child, &status, 0) < 0)
        _exit(3);
    if (child) {
        static char printed[OUTPUT];
        if (WIFSIGNALED(status))
            leave(WTERMSIG(status) == SIGALRM ? ENDLESS : CRASHED);
        see(&status, &status, sizeof status);
        see(printed, printed, pread(out, printed, OUTPUT, 0));
    }
}

/* Runs table[k] on input i once for each filling of the memory: a value that depends on what was
   never written is UNSTABLE. Returns VALUE with *value set, or why there is none.

   sigsetjmp returns 0 when it is called. A siglongjmp below it, from whatever depth, makes it
   return a second time, with the outcome. */
static int call(int k, int i, int budget, long long *value)
{
    for (pass = 0; pass < PASSES; pass++) {
        int byte = filling[pass];
        volatile char room[16 * byte + 16]; /* other addresses: what depends on them is unstable */
        int outcome = sigsetjmp(escape, 1);
        room[0] = 0;
        if (outcome)
            return outcome;
        steps = budget;
        seen[pass].size = 0;
#ifndef SCREEN
        clear_heap();
#endif
        if (FORK)
            ftruncate(out, 0), lseek(in, 0, SEEK_SET), lseek(out, 0, SEEK_SET);
        prepare(i, byte);
        attempt(k, byte);
    }
    return compare_passes(value);
}

static void read_inputs(void)
{
    static char stack[1 << 16]; /* of on_signal, where the code's own one is used up */
    int file = open("inputs", O_RDONLY), access = PROT_READ | PROT_WRITE;
    seen = mmap(0, PASSES * sizeof *seen, access, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (FORK)
        in = scratch("in"), out = scratch("out");
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(on_death);
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, 0);
    for (const char *s = TRAPS; *s; s++)
        sigaction(*s, &(struct sigaction){.sa_handler = on_signal, .sa_flags = SA_ONSTACK}, 0);
    pool = mmap(0, lseek(file, 0, SEEK_END), PROT_READ, MAP_SHARED, file, 0);
    if (pool == MAP_FAILED)
        _exit(2);
    close(file);
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

int main(int argc, char **argv)
{
    int most = argc > 1 ? atoi(argv[1]) : INPUTS;
    static int deciding[POOL + 1], numbers[POOL + 1];
    static char undefined[POOL + 1];
    int inputs = 0, outcomes = 0, endless = 0;
    read_inputs();
    for (int i = read_numbers("undefined", numbers); i--;)
        undefined[numbers[i]] = 1;

    for (int i = 0; i < POOL && (inputs < most || outcomes == 1); i++) {
        long long value;
        int j = 0;
        int outcome = undefined[i] ? CRASHED : call(0, i, STEPS, &value);
        endless += outcome == ENDLESS;
        if (endless == 400)
            break; /* it hardly ever ends, and that takes long */
        if (outcome != VALUE)
            continue;
        while (j < inputs && expected[j] != value)
            j++;
        int is_new = j == inputs;
        if (inputs == most && !is_new)
            continue; /* they are many already, and all alike */
        inputs -= inputs == most;
        outcomes += is_new;
        deciding[inputs] = i, expected[inputs++] = value;
    }
    dprintf(1, "%d", outcomes);
    for (int i = 0; i < inputs; i++)
        dprintf(1, " %d", deciding[i]);
    dprintf(1, "\n");
    if (argc > 1)
        return 0;

    /* Of a text: far more than the source took, or one that is right would seem to crash. */
    int cpu_s = 2 + STEPS / 100000 + 4 * clock() / CLOCKS_PER_SEC;
    for (int k = 1; k < sizeof table / sizeof *table; k++) {
        int count[OUTCOMES] = {0}, status = 0; /* count: inputs by outcome */
        if (!table[k]) {
            dprintf(1, "absent\n");
            continue;
        }
        if (!fork()) { /* a mutant may write where it should not, even over this loop's k */
            setrlimit(RLIMIT_CPU, &(struct rlimit){cpu_s, cpu_s});
            for (int i = 0; i < inputs && count[ENDLESS] < 8; i++) {
                if (FIRST && count[DIFFERED] + count[CRASHED] + count[ENDLESS])
                    break;
                long long value = 0;
                int outcome = call(k, deciding[i], PATIENCE, &value);
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
