"""Families about lists, records, code and the calendar, whose answers are computed.

Enters: a seeded `random.Random`. Leaves: rows, one family per function, listed in `FAMILIES`.
"""

import calendar
import contextlib
import io
import json
from collections.abc import Callable
from random import Random

from heedful.data.builtin.templates import SIZE, Row, weave
from heedful.data.builtin.vocabulary import CITIES, FRIENDS, GROUPS, JOBS

DAYS = list(calendar.day_name)
MONTHS = list(calendar.month_name)[1:]
ORDINALS = [
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
]

PROGRAMS = [
    "print(2 + 3 * 4)",
    "print(len('window'))",
    "print('ab' * 3)",
    "print(17 % 5)",
    "print(max(4, 9, 2))",
    "print('hello'.upper())",
    "x = 5\nx = x + 2\nprint(x)",
    "print(sum([1, 2, 3, 4]))",
    "print(sorted([3, 1, 2]))",
    "for i in range(3):\n    print(i, end=' ')",
    "print('sun' + 'light')",
    "print('python'[0])",
    "print(10 // 3)",
    "print(2 ** 5)",
    "words = ['red', 'blue']\nprint(len(words))",
    "print('level' == 'level'[::-1])",
    "print([n * 2 for n in [1, 5, 7]])",
    "print('-'.join(['a', 'b', 'c']))",
    "n = 8\nprint('even' if n % 2 == 0 else 'odd')",
    "ages = {'Tim': 6, 'Sue': 9}\nprint(ages['Sue'])",
]


def run(program: str) -> str:
    """What the program prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(program, {})  # only the constants above
    return printed.getvalue().strip()


def python_output(rng: Random) -> list[Row]:
    prompts = [
        "What does this Python code print? >> {0}",
        "Give the output of the program. >> {0}",
        "Run this in your head: what is printed? >> {0}",
    ]
    programs = rng.sample(PROGRAMS, len(PROGRAMS))
    return weave(prompts, "The code prints {1}.", [(code, run(code)) for code in programs])


def joined(items: list[int]) -> str:
    return ", ".join(map(str, items))


def number_sort(rng: Random) -> list[Row]:
    rising = ["Sort the numbers from smallest to largest. >> {0}", "Order {0} from low to high."]
    falling = ["Sort from largest to smallest. >> {0}", "Put {0} in descending order."]
    rows = []
    for turn in range(SIZE):
        numbers = rng.sample(range(1, 99), rng.choice([3, 4, 5]))
        down = turn % 2 == 1
        prompts = falling if down else rising
        ordered = sorted(numbers, reverse=down)
        if numbers == ordered:
            numbers.reverse()  # a list that is sorted already asks for nothing
        answer = joined(ordered)
        rows += weave([prompts[turn // 2 % 2]], "The sorted numbers are {1}.", [(joined(numbers), answer)])
    return rows


def largest_smallest(rng: Random) -> list[Row]:
    rows = []
    for turn in range(SIZE):
        numbers = rng.sample(range(1, 200), rng.choice([3, 4, 5]))
        word, best = [("largest", max), ("smallest", min)][turn % 2]
        prompts = ["Find the {1} number. >> {0}", "Which is the {1} of {0}?"]
        table = [(joined(numbers), word, best(numbers))]
        rows += weave([prompts[turn // 2 % 2]], "The {1} number is {2}.", table)
    return rows


def list_format(rng: Random) -> list[Row]:
    """A comma list laid out as bullets or as a numbered list."""
    rows = []
    for turn, group in enumerate(rng.sample(GROUPS, SIZE)):
        items = rng.sample(group, 3)
        bullets = "\\n".join(f"- {item}" for item in items)
        numbered = "\\n".join(f"{i}. {item}" for i, item in enumerate(items, 1))
        prompt, answer = [
            ("Make a bulleted list. >> {0}", bullets),
            ("Turn this into a numbered list: {0}", numbered),
            ("Number these items. >> {0}", numbered),
            ("Write as bullet points: {0}", bullets),
        ][turn % 4]
        rows += weave([prompt], "{1}", [(", ".join(items), answer)])
    return rows


def json_record(rng: Random) -> list[Row]:
    prompts = [
        "Turn the fields into JSON. >> {0}",
        "Format this as a JSON object: {0}",
        "Write the record as JSON. >> {0}",
    ]
    table = []
    for name in [*FRIENDS, "Mia", "Noah", "Olga"]:
        fields = {"age": rng.randint(19, 70), "city": rng.choice(CITIES), "job": rng.choice(JOBS)}
        record = {"name": name} | {key: fields[key] for key in rng.sample(list(fields), 2)}
        table.append(("; ".join(f"{key}: {value}" for key, value in record.items()), json.dumps(record)))
    return weave(prompts, "{1}", table)


def weekdays(rng: Random) -> list[Row]:
    table = []
    for day, gap in rng.sample([(day, gap) for day in range(7) for gap in (-2, -1, 1, 2, 3)], SIZE):
        size = ["", "one day", "two days", "three days"][abs(gap)]
        gap_text = f"{size} {'after' if gap > 0 else 'before'}"
        table.append((gap_text, DAYS[day], DAYS[(day + gap) % 7], gap_text.capitalize()))
    prompts = ["Which day is {0} {1}?", "What day of the week comes {0} {1}?", "{3} {1} is which day?"]
    return weave(prompts, "{3} {1} is {2}.", table)


def months(rng: Random) -> list[Row]:
    place = rng.sample(range(12), 8)
    length = rng.sample([i for i in range(12) if i != 1], 7)
    return [
        *weave(
            ["Which is the {0} month of the year?", "Name month number {1}."],
            "The {0} month of the year is {2}.",
            [(ORDINALS[i], i + 1, MONTHS[i]) for i in place],
        ),
        *weave(
            ["How many days does {0} have?", "How long is {0}, in days?"],
            "{0} has {1} days.",
            [(MONTHS[i], calendar.monthrange(2023, i + 1)[1]) for i in length],
        ),
    ]


def leap_years(rng: Random) -> list[Row]:
    years = rng.sample(range(1904, 2000, 4), 6) + rng.sample([y for y in range(1903, 1999) if y % 4], 6)
    rows = []
    for turn, year in enumerate([*years, 1700, 1800, 1900, 2000]):
        prompt = ["Is {0} a leap year?", "Does February {0} have 29 days?"][turn % 2]
        verdict = "is a leap year" if calendar.isleap(year) else "is not a leap year"
        reason = f"{'' if year % 4 == 0 else 'not '}divisible by 4"
        if year % 100 == 0:
            reason = f"divisible by 100 {'and by' if year % 400 == 0 else 'but not by'} 400"
        word = "Yes" if calendar.isleap(year) else "No"
        rows += weave([prompt], "{1}, {0} {2} because it is {3}.", [(year, word, verdict, reason)])
    return rows


FAMILIES: dict[str, Callable[[Random], list[Row]]] = {
    family.__name__: family
    for family in (
        python_output,
        number_sort,
        largest_smallest,
        list_format,
        json_record,
        weekdays,
        months,
        leap_years,
    )
}
