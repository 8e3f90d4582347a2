"""The English rows that ship: the file is what its code makes, and what is computed is right."""

import ast
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from heedful.data.builtin import build
from heedful.data.builtin.templates import Row, parse_family

ROWS: list[Row] = json.loads((build.HERE / "en.json").read_text(encoding="utf-8"))
# Their answers are titles, words in another order, list items or code: no sentence, so no full stop.
BARE = {"headline", "reverse_words", "letter_case", "list_format", "python_lines"}


def asked(row: Row) -> str:
    return f"{row['instruction']} {row['input']}".strip()


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"-?\d+", text)]


def listed(row: Row) -> list[str]:
    """The comma list that a row asks about, be it the input or the end of the instruction."""
    return (row["input"] or row["instruction"].split(": ")[1].rstrip("?.")).split(", ")


def near_duplicates(texts: list[str], threshold: float) -> int:
    """How many texts have another one whose character 3-grams are this close by cosine."""
    counts = [Counter(text.lower()[i : i + 3] for i in range(len(text) - 2)) for text in texts]
    columns = {gram: column for column, gram in enumerate(sorted(set().union(*counts)))}
    vectors = np.zeros((len(texts), len(columns)), dtype=np.float32)
    for line, count in enumerate(counts):
        vectors[line, [columns[gram] for gram in count]] = list(count.values())
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, 0)
    return int((likeness.max(axis=1) >= threshold).sum())


def test_the_file_is_what_build_makes(tmp_path: Path) -> None:
    build.dump(build.rows(), tmp_path / "en.json")
    assert (tmp_path / "en.json").read_bytes() == (build.HERE / "en.json").read_bytes()


def test_a_second_build_makes_the_same_rows() -> None:
    assert build.all_families() == build.FAMILIES


def test_there_are_a_thousand_rows_in_forty_families() -> None:
    assert 1000 <= len(ROWS) <= 1200
    assert len(build.FAMILIES) >= 40
    assert all(15 <= len(rows) <= 35 for rows in build.FAMILIES.values())


def test_every_row_has_the_three_keys_and_an_answer() -> None:
    assert all(list(row) == ["instruction", "input", "output"] for row in ROWS)
    assert all(row["instruction"] and row["output"] for row in ROWS)
    assert all(text == text.strip() for row in ROWS for text in row.values())


def test_no_template_hole_is_left_open() -> None:
    assert not [row for row in ROWS for text in row.values() if re.search(r"\{\d\}|\\n| >> | \| ", text)]


def test_no_question_is_asked_twice() -> None:
    pairs = Counter(re.sub(r"\W+", " ", asked(row).lower()) for row in ROWS)
    assert pairs.most_common(1)[0][1] == 1


def test_a_quarter_to_a_third_of_the_rows_have_an_input() -> None:
    assert 0.25 <= sum(bool(row["input"]) for row in ROWS) / len(ROWS) <= 0.35


def test_answers_end_like_sentences() -> None:
    sentences = [row for name, rows in build.FAMILIES.items() if name not in BARE for row in rows]
    assert not [row["output"] for row in sentences if row["output"][-1] not in ".?!}"]


def test_rows_are_short() -> None:
    assert max(len(" ".join(row.values()).split()) for row in ROWS) <= 60


def test_families_are_mixed() -> None:
    family = {asked(row): name for name, rows in build.FAMILIES.items() for row in rows}
    assert len({family[asked(row)] for row in ROWS[:100]}) >= 40


def test_fewer_than_one_row_in_twenty_has_a_near_copy() -> None:
    assert near_duplicates([asked(row) for row in ROWS], 0.9) / len(ROWS) < 0.05


def test_letter_counts_are_right() -> None:
    for row in build.FAMILIES["letter_count"]:
        word = re.findall(r"'(\w+)'", row["instruction"])[0]
        assert row["output"] == f"The word '{word}' has {len(word)} letters."


def test_word_counts_are_right() -> None:
    for row in build.FAMILIES["word_count"]:
        sentence = row["input"] or row["instruction"].split("'")[1]
        assert numbers(row["output"]) == [sentence.count(" ") + 1]


def test_alphabetical_lists_are_sorted() -> None:
    for row in build.FAMILIES["alphabetical"]:
        assert row["output"] == f"In alphabetical order: {', '.join(sorted(listed(row)))}."
        assert listed(row) != sorted(listed(row))


def test_the_longest_word_is_the_longest() -> None:
    for row in build.FAMILIES["longest_word"]:
        assert re.findall(r"'(\w+)'", row["output"]) == [max(listed(row), key=len)]


def test_number_lists_are_sorted_the_way_that_was_asked() -> None:
    for row in build.FAMILIES["number_sort"]:
        down = re.search("descending|from largest", row["instruction"]) is not None
        assert numbers(row["output"]) == sorted(numbers(asked(row)), reverse=down)


def test_the_largest_and_the_smallest_are_picked() -> None:
    for row in build.FAMILIES["largest_smallest"]:
        pick = max if "largest" in row["instruction"] else min
        assert numbers(row["output"]) == [pick(numbers(asked(row)))]


def test_averages_are_right() -> None:
    for row in build.FAMILIES["averages"]:
        given = numbers(asked(row))
        assert numbers(row["output"]) == [*given, sum(given) // 3]
        assert sum(given) % 3 == 0


def test_percentages_are_right() -> None:
    for row in build.FAMILIES["percentages"]:
        part, whole, result = numbers(row["output"])
        assert numbers(row["instruction"]) == [part, whole]
        assert part * whole == result * 100


def test_units_are_converted_right() -> None:
    seconds = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400, "weeks": 604800}
    length = {"millimeters": 1, "centimeters": 10, "meters": 1000, "kilometers": 1_000_000}
    old = {"inches": 1, "feet": 12, "yards": 36}
    checked = 0
    for row in build.FAMILIES["unit_conversion"]:
        match = re.fullmatch(r"(\d+) ([\w ]+) is equal to (\d+) (\w+)\.", row["output"])
        assert match, row["output"]
        amount, source, result, target = match.groups()
        for scale in (seconds, length, old):
            if source in scale and target in scale:
                assert int(amount) * scale[source] == int(result) * scale[target]
                checked += 1
    assert checked >= 12


def test_temperatures_are_converted_right() -> None:
    for row in build.FAMILIES["temperature"]:
        first, second = numbers(row["output"])
        celsius, fahrenheit = (first, second) if "Celsius is" in row["output"] else (second, first)
        assert celsius * 9 == (fahrenheit - 32) * 5
        assert numbers(row["instruction"]) == [first]


def test_roman_numerals_are_right() -> None:
    values = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}
    for row in build.FAMILIES["roman_numerals"]:
        numeral = re.findall(r"\b[IVXLC]+\b", row["output"])[0]
        digits = [values[letter] for letter in numeral]
        signs = [-1 if left < right else 1 for left, right in zip(digits, [*digits[1:], 0], strict=True)]
        assert numbers(row["output"]) == [sum(a * b for a, b in zip(digits, signs, strict=True))]


def test_the_next_number_goes_on_with_the_pattern() -> None:
    for row in build.FAMILIES["next_number"]:
        a, b, c, d = numbers(asked(row))
        after = d + (d - c) if b - a == d - c else d * d // c
        assert numbers(row["output"]) == [after]


def test_json_answers_hold_the_fields_that_were_given() -> None:
    for row in build.FAMILIES["json_record"]:
        record = json.loads(row["output"])
        assert "; ".join(f"{key}: {value}" for key, value in record.items()) in asked(row)


def test_python_lines_are_python() -> None:
    for row in build.FAMILIES["python_lines"]:
        ast.parse(row["output"])


def test_homophone_gaps_are_filled_with_one_of_the_two_words() -> None:
    for row in build.FAMILIES["homophones"]:
        first, second = re.findall(r"'(\w+)'", row["instruction"])
        sentence = row["input"] or row["instruction"].split(": ")[1]
        assert row["output"] in {sentence.replace("___", first), sentence.replace("___", second)}


def test_what_is_extracted_stands_in_the_text() -> None:
    for row in build.FAMILIES["extraction"]:
        assert re.sub(r"^The \w+ is (a )?|\.$", "", row["output"]) in asked(row)


def test_a_family_whose_rows_differ_in_length_is_refused() -> None:
    with pytest.raises(ValueError, match="differ in their number of fields"):
        parse_family("[pets]\n? What is {0}?\n= {1}\na cat | An animal.\na dog\n")
