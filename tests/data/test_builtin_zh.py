"""The Chinese rows: the file agrees with the code, and what can be recomputed is recomputed here."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from itertools import pairwise

from heedful.data.builtin import zh_rows

SHIPPED: list[dict[str, str]] = json.loads(zh_rows.PATH.read_text(encoding="utf-8"))


def apply(a: str, sign: str, b: str) -> Fraction:
    """Enter: two numerals and a sign. Leave: the exact result."""
    x, y = Fraction(a), Fraction(b)
    if sign == "+":
        return x + y
    if sign == "-":
        return x - y
    return x * y if sign == "×" else x / y


def test_file_equals_rows() -> None:
    assert zh_rows.rows() == SHIPPED
    assert zh_rows.PATH.read_bytes() == zh_rows.text().encode("utf-8")


def test_one_row_per_line() -> None:
    lines = zh_rows.PATH.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "[" and lines[-1] == "]"
    assert [json.loads(line.rstrip(",")) for line in lines[1:-1]] == SHIPPED


def test_size_and_shape() -> None:
    assert 160 <= len(SHIPPED) <= 200
    for row in SHIPPED:
        assert list(row) == ["instruction", "input", "output"]
        assert row["instruction"].strip() and row["output"].strip()
        assert all(value == value.strip() for value in row.values())
    share = sum(bool(row["input"]) for row in SHIPPED) / len(SHIPPED)
    assert 0.25 <= share <= 0.35


def test_unique() -> None:
    assert len({(row["instruction"], row["input"]) for row in SHIPPED}) == len(SHIPPED)


def test_families() -> None:
    found = zh_rows.families()
    assert len(found) >= 16
    assert all(len(family) >= 4 for family in found.values())
    assert sum(map(len, found.values())) == len(SHIPPED)


def test_arithmetic() -> None:
    seen = 0
    for row in SHIPPED:
        if match := re.fullmatch(r"计算：(\d+) ([-+×÷]) (\d+) = ？", row["instruction"]):
            assert Fraction(row["output"]) == apply(*match.groups())
            seen += 1
    assert seen == len(zh_rows.families()["算术"]) >= 10


def test_word_problems() -> None:
    signs = {"每盒": "×", "小明有": "-", "平均分": "÷", "又放上": "+"}
    for row in zh_rows.families()["应用题"]:
        (sign,) = [s for word, s in signs.items() if word in row["instruction"]]
        a, b = re.findall(r"\d+", row["instruction"])
        assert re.fullmatch(r"\d+[支颗个本]", row["output"])
        assert Fraction(row["output"][:-1]) == apply(a, sign, b)


def test_conversions() -> None:
    metre = {"千米": Fraction(1000), "米": Fraction(1), "厘米": Fraction(1, 100)}
    gram = {"吨": Fraction(10**6), "千克": Fraction(1000), "斤": Fraction(500), "克": Fraction(1)}
    litre = {"升": Fraction(1), "毫升": Fraction(1, 1000)}
    hour = {"天": Fraction(24), "小时": Fraction(1), "分钟": Fraction(1, 60)}
    for row in zh_rows.families()["单位换算"]:
        asked = re.fullmatch(r"([\d.]+)(\D+)等于多少(\D+)？", row["instruction"])
        given = re.fullmatch(r"([\d.]+)(\D+)", row["output"])
        assert asked and given and asked[3] == given[2]
        (scale,) = [s for s in (metre, gram, litre, hour) if asked[2] in s and asked[3] in s]
        assert Fraction(asked[1]) * scale[asked[2]] == Fraction(given[1]) * scale[given[2]]


def test_sorting() -> None:
    week = "一二三四五六日"
    for row in zh_rows.families()["排序"]:
        before, after = row["input"].split("，"), row["output"].split("，")
        assert sorted(before) == sorted(after) and before != after
        keys = [week.index(x[-1]) if x.startswith("星期") else int(x) for x in after]
        pairs = list(pairwise(keys))
        assert all(a > b if "从大到小" in row["instruction"] else a < b for a, b in pairs)


def test_corrections_change_little() -> None:
    for row in zh_rows.families()["改错别字"]:
        assert len(row["input"]) == len(row["output"])
        assert sum(a != b for a, b in zip(row["input"], row["output"], strict=True)) == 1
    for row in zh_rows.families()["标点"]:
        assert re.sub("[，。、！？]", "", row["output"]) == row["input"]


def test_counting() -> None:
    for row in zh_rows.families()["计数"]:
        if match := re.fullmatch(r"“(.+)”这句话有几个字？", row["instruction"]):
            count = len(re.findall("[\u4e00-\u9fff]", match[1]))
        elif match := re.fullmatch(r"“(.+)”一共有几个词？", row["instruction"]):
            count = len(re.findall("[^、]+", match[1]))
        else:
            match = re.fullmatch(r"单词(\w+?)里有几个字母(\w)？", row["instruction"])
            assert match
            count = len(re.findall(match[2], match[1]))
        assert row["output"] == f"{count}个"


def test_json_outputs_parse() -> None:
    for row in zh_rows.families()["JSON格式"]:
        found = json.loads(row["output"])
        assert all(key in row["instruction"] for key in found)
        assert all(str(value) in row["input"] for value in found.values())
