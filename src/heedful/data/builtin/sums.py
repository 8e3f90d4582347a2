"""Families about numbers, whose answers are computed.

Enters: a seeded `random.Random`. Leaves: rows, one family per function, listed in `FAMILIES`.
"""

from collections.abc import Callable
from fractions import Fraction
from operator import add, mul, sub
from random import Random

from heedful.data.builtin.templates import SIZE, Row, weave
from heedful.data.builtin.vocabulary import FRIENDS

ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
ROMAN = [(100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]

# from, to, how many of `to` make one `from`, amounts to ask about
UNITS: list[tuple[str, str, Fraction, list[int]]] = [
    ("feet", "inches", Fraction(12), [3, 7]),
    ("hours", "minutes", Fraction(60), [2, 5]),
    ("weeks", "days", Fraction(7), [4, 9]),
    ("years", "months", Fraction(12), [6]),
    ("days", "hours", Fraction(24), [3]),
    ("minutes", "seconds", Fraction(60), [8]),
    ("kilometers", "meters", Fraction(1000), [11]),
    ("metric tons", "kilograms", Fraction(1000), [4]),
    ("yards", "feet", Fraction(3), [20]),
    ("centimeters", "millimeters", Fraction(10), [35]),
    ("millimeters", "centimeters", Fraction(1, 10), [80]),
    ("gallons", "quarts", Fraction(4), [5]),
    ("pounds", "ounces", Fraction(16), [2]),
    ("inches", "feet", Fraction(1, 12), [48]),
    ("days", "weeks", Fraction(1, 7), [56]),
    ("minutes", "hours", Fraction(1, 60), [240]),
    ("dollars", "cents", Fraction(100), [9]),
]


def in_words(number: int) -> str:
    """0 to 999 in English."""
    if number < 20:
        return ONES[number]
    if number < 100:
        return TENS[number // 10] + (f"-{ONES[number % 10]}" if number % 10 else "")
    rest = f" and {in_words(number % 100)}" if number % 100 else ""
    return f"{ONES[number // 100]} hundred{rest}"


def in_roman(number: int) -> str:
    numeral = ""
    for value, letters in ROMAN:
        numeral += letters * (number // value)
        number %= value
    return numeral


def spoken_sums(rng: Random) -> list[Row]:
    """Arithmetic in words."""
    table = []
    for name, low, high in [("plus", 2, 12), ("minus", 2, 9), ("times", 3, 9)]:
        pairs = [(a, b) for a in range(low, high + 1) for b in range(low, a)]
        for a, b in rng.sample(pairs, 5):
            a = a + b if name == "minus" else a
            result = {"plus": a + b, "minus": a - b, "times": a * b}[name]
            words = [in_words(a), name, in_words(b), in_words(result)]
            table.append((*words, words[0].capitalize()))
    prompts = [
        "What is {0} {1} {2}?",
        "How much is {0} {1} {2}?",
        "Work out {0} {1} {2}.",
        "{4} {1} {2} is what?",
    ]
    return weave(prompts, "{4} {1} {2} is {3}.", table)


def number_words(rng: Random) -> list[Row]:
    numbers = rng.sample(range(13, 100), 8) + rng.sample(range(101, 999), 7)
    prompts = ["Write the number {0} in words.", "How is {0} written out?", "Spell {0} as a word number."]
    return weave(prompts, "The number {0} is written '{1}'.", [(n, in_words(n)) for n in numbers])


def percentages(rng: Random) -> list[Row]:
    pairs = [(part, whole) for part in (5, 10, 15, 20, 25, 40, 50, 75) for whole in range(20, 500, 20)]
    prompts = ["What is {0} percent of {1}?", "Find {0}% of {1}.", "How much is {0} percent of {1}?"]
    table = [(part, whole, part * whole // 100) for part, whole in rng.sample(pairs, SIZE)]
    return weave(prompts, "{0} percent of {1} is {2}.", table)


def averages(rng: Random) -> list[Row]:
    table: list[tuple[int, ...]] = []
    while len(table) < SIZE:
        numbers = rng.sample(range(2, 30), 3)
        if sum(numbers) % 3 == 0:
            table.append((*numbers, sum(numbers) // 3))
    prompts = [
        "What is the average of {0}, {1} and {2}?",
        "Find the mean. >> {0}, {1}, {2}",
        "Compute the mean of {0}, {1}, {2}.",
        "Average these numbers. >> {0}, {1}, {2}",
    ]
    return weave(prompts, "The average of {0}, {1} and {2} is {3}.", table)


def shapes(rng: Random) -> list[Row]:
    """Perimeters and areas with whole answers."""
    sizes = [(long, rng.randint(2, 5)) for long in rng.sample(range(6, 40), 13)]
    perimeter = [
        "What is the perimeter of a rectangle {0} cm long and {1} cm wide?",
        "A frame measures {0} by {1} cm. How long is its edge?",
        "Add up the sides of a {0} cm by {1} cm card.",
    ]
    area = [
        "Find the area of a {0} m by {1} m room.",
        "A rug is {0} m long and {1} m wide. How big is it?",
        "How many square meters has a {0} m by {1} m field?",
    ]
    triangle = [
        "A triangle has base {0} m and height {1} m. Find its area.",
        "Triangle: base {0} m, height {1} m. Area?",
    ]
    square = ["What is the area of a square with {0} m sides?", "Find the area of a square {0} m wide."]
    return [
        *weave(perimeter, "The perimeter is {2} cm.", [(a, b, 2 * (a + b)) for a, b in sizes[:5]]),
        *weave(area, "The area is {2} square meters.", [(a, b, a * b) for a, b in sizes[5:10]]),
        *weave(triangle, "The area is {2} square meters.", [(2 * b, a, a * b) for a, b in sizes[10:]]),
        *weave(square, "The area is {1} square meters.", [(a, a * a) for a in (7, 11)]),
    ]


def unit_conversion(rng: Random) -> list[Row]:
    table = [(n, source, target, n * factor) for source, target, factor, amounts in UNITS for n in amounts]
    rng.shuffle(table)
    prompts = ["How many {2} are in {0} {1}?", "Express {0} {1} in {2}.", "Change {0} {1} into {2}."]
    return weave(prompts, "{0} {1} is equal to {3} {2}.", table)


def temperature(rng: Random) -> list[Row]:
    celsius = rng.sample(range(10, 100, 5), 12)
    up = ["What is {0} °C in Fahrenheit?", "Change {0} degrees Celsius to °F.", "{0} °C is how many °F?"]
    down = ["What is {0} °F in Celsius?", "Read {0} °F on a Celsius scale.", "Turn {0} °F into °C."]
    pairs = [(c, c * 9 // 5 + 32) for c in celsius]
    known = [(f, c) for c, f in [*pairs[9:], (0, 32), (-10, 14), (100, 212)]]
    return [
        *weave(up, "{0} degrees Celsius is {1} degrees Fahrenheit.", pairs[:9]),
        *weave(down, "{0} degrees Fahrenheit is {1} degrees Celsius.", known),
    ]


def roman_numerals(rng: Random) -> list[Row]:
    numbers = [(n, in_roman(n)) for n in rng.sample(range(3, 130), SIZE)]
    to = ["Write {0} in Roman numerals.", "What is {0} as a Roman numeral?"]
    back = ["What number is the Roman numeral {1}?", "Which value does {1} have in Roman numerals?"]
    return [
        *weave(to, "{0} in Roman numerals is {1}.", numbers[:8]),
        *weave(back, "The Roman numeral {1} is {0}.", numbers[8:]),
    ]


def next_number(rng: Random) -> list[Row]:
    """Arithmetic and doubling sequences."""
    table = []
    for step in rng.sample(range(2, 13), 9):
        start = rng.randint(1, 20)
        table.append((", ".join(str(start + step * i) for i in range(4)), start + 4 * step))
    for start in (1, 3, 5):
        table.append((", ".join(str(start * 2**i) for i in range(4)), start * 16))
    for start, step in ((50, 5), (90, 10), (33, 3)):
        table.append((", ".join(str(start - step * i) for i in range(4)), start - 4 * step))
    prompts = ["What comes next: {0}?", "Continue the pattern. >> {0}", "Which number follows {0}?"]
    return weave(prompts, "The next number is {1}.", table)


def word_problems(rng: Random) -> list[Row]:
    plots: list[tuple[str, str, Callable[[int, int], int]]] = [
        ("{0} has {1} apples and picks {2} more. How many is that?", "{0} has {3} apples.", add),
        ("{0} had {1} coins and spent {2}. How many are left?", "{0} has {3} coins left.", sub),
        ("{0} packs {1} boxes with {2} eggs each. How many eggs?", "{0} packs {3} eggs.", mul),
        ("{0} reads {1} pages at noon and {2} at night. How many in all?", "{0} reads {3} pages.", add),
        ("There were {1} birds near {0}, then {2} flew off. How many stayed?", "{3} birds stayed.", sub),
        ("{0} runs {2} miles a day. How far is that in {1} days?", "{0} runs {3} miles.", mul),
    ]
    rows = []
    for question, answer, solve in plots:
        for friend in rng.sample(FRIENDS, 3):
            more, fewer = rng.randint(8, 20), rng.randint(2, 7)
            rows += weave([question], answer, [(friend, more, fewer, solve(more, fewer))])
    return rows


FAMILIES: dict[str, Callable[[Random], list[Row]]] = {
    family.__name__: family
    for family in (
        spoken_sums,
        number_words,
        percentages,
        averages,
        shapes,
        unit_conversion,
        temperature,
        roman_numerals,
        next_number,
        word_problems,
    )
}
