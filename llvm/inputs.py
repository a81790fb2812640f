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

from llvm.drive import BITS, ELEMENTS


def input_pool(called, source, rng, count):
    """Up to `count` different inputs, in the order drawn: the first are a mixture of all kinds.

    called: Entry. source: str, C. rng: random.Random. count: int. -> list of inputs.
    Of a function: tuples of its numbers (int or float), those of its buffers in their place.
    Integers are wrapped to the bits of their parameter; strings end with 0.
    Of a program: its stdin, a str."""
    draw = InputSampler(source, rng)
    pool = {}  # a dict, because it keeps the order
    for number in range(8 * count):
        if called.is_program:
            values = draw.stdin()
        else:
            kind = draw.kinds[number % len(draw.kinds)]
            arguments = (draw.argument(parameter, kind) for parameter in called.parameters)
            values = tuple(itertools.chain.from_iterable(arguments))
        pool[values] = None
    return list(pool)[:count]


class InputSampler:
    """Draws inputs for one source. source: str, C. rng: random.Random.

    A `kind` is a method that draws an integer for a type of `bits` bits; it may overflow (it is
    wrapped later). The methods that take `bits`, an int, are kinds: -> int."""

    def __init__(self, source, rng):
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

    def argument(self, parameter, kind):
        """The numbers of one parameter: list of parameter.numbers ints or floats.

        parameter: Parameter. kind: one of self.kinds."""
        if parameter.is_length:
            return [self.randint(0, ELEMENTS // 2)]
        if parameter.type == "char" and parameter.is_buffer:
            text = self.text(ELEMENTS - 1)
            return list(map(ord, text.ljust(ELEMENTS, "\0")))
        if parameter.is_float:
            return self.floats(parameter, kind)
        return self.integers(parameter, kind)

    def floats(self, parameter, kind):
        """As argument, of floats: list of float. The last number of a buffer is 0."""
        scale = self.choice([1.0, 0.5, 0.1, 0.01])
        kinds = [kind, self.small, self.small, self.middling]
        values = [self.choice(kinds)(16) * scale for _ in range(parameter.numbers)]
        if parameter.is_buffer:
            values[-1] = 0.0
        return values

    def integers(self, parameter, kind):
        """As argument, of integers: list of int, wrapped to the type. A buffer's last one is 0."""
        bits = BITS[parameter.type]
        if parameter.is_buffer:
            # Alike in size, and mostly small: many programs add or index with them.
            kind = self.choice([self.small, self.middling, self.digit, self.index, kind])
            values = [kind(bits) for _ in range(ELEMENTS - 1)] + [0]
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
