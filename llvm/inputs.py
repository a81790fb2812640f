"""Draws test inputs: corner cases and values that expose mutants.

    input_pool(Entry, source, rng, 768) -> [input, ...]

Numbers are corners of their type, neighbours of the constants in the source (where a loosened
comparison shows), small, middling, or of any magnitude. Text is drawn from the characters of the
source's literals and from common alphabets.

Left out: solving for inputs that reach a branch. A path that no draw takes is not compared.
"""

import itertools
import re
import string

from llvm.debug_info import BITS
from llvm.layout import ELEMENTS

# Of the conversions of scanf: what they read.
CONVERSION = re.compile(r"%[*\d]*(?:hh|h|ll|l|L|z)?([diuxfegcs\[])")
# How small the numbers of an input are: any, up to 20, up to 5. Where few wide inputs are defined,
# narrow ones follow: small, sorted, and as many as the source is told.
NARROW = (None, 20, 5)


def input_pool(called, source, rng, count):
    """Different inputs, in the order drawn: `count` of all kinds, then half as many of each NARROW.

    called: Entry. source: str, C. rng: random.Random. count: int. -> list of inputs.
    Of a function: tuples of its numbers (int or float), those of its buffers in their place.
    Integers are wrapped to the bits of their parameter; strings end with 0. What it reads comes
    last. Of a program: what it reads, a str."""
    pool = {}  # a dict, because it keeps the order
    for most in NARROW:
        draw = InputSampler(source, rng, most)
        wanted = len(pool) + (count if most is None else count // 2)
        for number in range(8 * count):
            if len(pool) >= wanted:
                break
            pool[draw.input(called, number)] = None
    return list(pool)


class InputSampler:
    """Draws inputs for one source. source: str, C. rng: random.Random. most: one of NARROW.

    A `kind` is a method that draws an integer for a type of `bits` bits; it may overflow (it is
    wrapped later). The methods that take `bits`, an int, are kinds: -> int."""

    def __init__(self, source, rng, most=None):
        self.most = most
        self.choice = rng.choice
        self.randint = rng.randint
        self.rng = rng
        digits = re.findall(r"(?<![\w.])(\d{1,18})[uUlL]*(?![\w.])", source)
        self.literals = sorted(set(map(int, digits))) or [0]
        self.reads_numbers = bool(re.search(r"%l*[dufxi]|atoi|strtol", source))
        self.kinds = [
            self.corner,
            self.near_literal,
            self.small,
            self.small,
            self.middling,
            self.any_magnitude,
        ]
        if most:
            self.kinds = [self.few]
        self.conversions = []  # of all calls of scanf
        for form in re.findall(r'scanf\s*\([^"]*"([^"]*)"', source):
            self.conversions += CONVERSION.findall(form)
        quoted = re.findall(r"'([^'\\\n])'|\"([^\"\\\n]*)\"", source)
        characters = "".join(map("".join, quoted))
        own = "".join(filter(str.isprintable, characters)) or "a"
        self.alphabets = [
            own,
            own,
            string.digits,
            string.ascii_lowercase[:4],
            string.ascii_letters + "   ",
            string.digits + "+-*/() ",
            string.printable[:95],
        ]

    def input(self, called, number):
        """An input. called: Entry. number: int, says which kind it is of."""
        text = []
        if called.reads:
            text.append(self.tokens() if self.most and self.conversions else self.stdin())
        if called.is_program:
            return text[0]
        kind = self.kinds[number % len(self.kinds)]
        runs = [self.run(numbers, kind) for numbers in called.numbers]
        return tuple(itertools.chain(*runs, text))

    def run(self, numbers, kind):
        """One run of numbers of an input: list of int or float.

        numbers: Numbers. kind: one of self.kinds."""
        if numbers.is_choice:
            return [self.randint(0, 4)]
        if numbers.is_length:
            return [self.randint(0, self.most or ELEMENTS // 2)]
        if numbers.type == "char" and numbers.is_buffer:
            text = self.text(min(numbers.count, ELEMENTS) - 1)
            return list(map(ord, text.ljust(numbers.count, "\0")))
        if numbers.is_float:
            return self.floats(numbers, kind)
        values = self.integers(numbers, kind)
        if self.most and self.randint(0, 1):
            values.sort()
        return values

    def floats(self, numbers, kind):
        """As run, of floats: list of float. The last number of a buffer is 0."""
        scale = self.choice([1.0, 0.5, 0.1, 0.01])
        kinds = [kind] if self.most else [kind, self.small, self.small, self.middling]
        values = [self.choice(kinds)(16) * scale for _ in range(numbers.count)]
        if numbers.is_buffer:
            values[-1] = 0.0
        return values

    def integers(self, numbers, kind):
        """As run, of integers: list of int, wrapped to the type. A buffer's last one is 0."""
        bits = BITS[numbers.type]
        if numbers.is_buffer:
            # Alike in size, and mostly small: many programs add or index with them.
            if not self.most:
                kind = self.choice([self.small, self.middling, self.digit, self.index, kind])
            values = [kind(bits) for _ in range(numbers.count - 1)] + [0]
        else:
            kind = self.choice([kind, kind, *self.kinds])
            values = [kind(bits)]
        half = 1 << bits - 1
        return [(value + half) % (2 * half) - half for value in values]

    def stdin(self):
        """What a program reads: str, lines of numbers or of text."""
        numeric = 0.8 if self.reads_numbers else 0.2
        if self.rng.random() < numeric:
            return self.lines_of_numbers()
        lines = []
        for _ in range(self.randint(0, 5)):
            lines.append(self.text(30) + self.choice(["\n", "\n", " "]))
        return "".join(lines)

    def tokens(self):
        """What the calls of scanf ask for, in their order and again: str, a small number first."""
        words = []
        for number in range(self.randint(1, 80)):
            conversion = self.conversions[number % len(self.conversions)]
            if conversion in "c[s":
                words.append(self.text(1 if conversion == "c" else 8).strip() or "a")
            elif conversion in "feg":
                words.append(f"{self.few(32) * self.choice([1, 0.5]):g}")
            else:
                words.append(str(self.few(32)))
        return self.choice([" ", "\n"]).join(words) + "\n"

    def lines_of_numbers(self):
        """Up to 12 numbers: str. In half of the cases their count comes first."""
        kind = self.choice([self.near_literal, self.small, self.small, self.middling, self.digit])
        numbers = [kind(32) for _ in range(self.randint(0, 12))]
        separator = self.choice([" ", "\n"])
        if self.randint(0, 1):
            numbers.insert(0, len(numbers))
        return separator.join(map(str, numbers)) + "\n"

    def text(self, longest):
        """Up to `longest` (int) characters of one alphabet: str."""
        alphabet = self.choice(self.alphabets)
        length = self.randint(0, longest)
        return "".join(self.choice(alphabet) for _ in range(length))

    def corner(self, bits):
        least = -1 << bits - 1
        return self.choice([0, 1, -1, 2, -2, 3, 10, least, least + 1, -least - 1])

    def near_literal(self, bits):
        sign = self.choice([1, 1, -1])
        return sign * self.choice(self.literals) + self.choice([-1, 0, 1])

    def few(self, bits):
        return self.randint(0, self.most)

    def small(self, bits):
        return self.randint(-20, 20)

    def middling(self, bits):
        return self.randint(-1000, 1000)

    def any_magnitude(self, bits):
        sign = self.choice([1, -1])
        return sign * self.rng.getrandbits(self.randint(1, bits))

    def digit(self, bits):
        return self.randint(0, 9)

    def index(self, bits):
        return self.randint(0, ELEMENTS - 1)
