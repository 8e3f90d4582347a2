"""Chinese rows whose answer is computed.

Nothing enters; `families()` leaves as a mapping from the name of a family to its items
(instruction, input, output), in the order of the tables here.
"""

from __future__ import annotations

import json
from fractions import Fraction

Item = tuple[str, str, str]

# (value, unit, unit asked for, how many of the second unit make one of the first)
CONVERSIONS = [
    ("3", "千米", "米", Fraction(1000)),
    ("4", "米", "厘米", Fraction(100)),
    ("250", "厘米", "米", Fraction(1, 100)),
    ("5", "千克", "克", Fraction(1000)),
    ("7000", "千克", "吨", Fraction(1, 1000)),
    ("1.5", "升", "毫升", Fraction(1000)),
    ("2", "小时", "分钟", Fraction(60)),
    ("72", "小时", "天", Fraction(1, 24)),
    ("8", "斤", "千克", Fraction(1, 2)),
]

SUMS = [
    (48, "+", 27), (136, "+", 89), (7, "+", 95), (62, "-", 35), (200, "-", 74), (91, "-", 18),
    (7, "×", 8), (25, "×", 4), (13, "×", 6), (56, "÷", 7), (144, "÷", 12), (90, "÷", 5),
]  # fmt: skip

PROBLEMS = [
    ("每盒有{a}支铅笔，{b}盒一共有多少支？", 6, "×", 8, "支"),
    ("小明有{a}颗糖，吃了{b}颗，还剩多少颗？", 15, "-", 4, "颗"),
    ("把{a}个苹果平均分给{b}个小朋友，每人分到多少个？", 24, "÷", 6, "个"),
    ("书架上原有{a}本书，又放上{b}本，现在一共有多少本？", 32, "+", 9, "本"),
]

SENTENCES = ["今天天气很好", "我爱吃苹果", "小鸟在树上唱歌"]
WORD_LISTS = [["桌子", "椅子", "书柜", "床"], ["红", "黄", "蓝", "绿", "紫"]]
LETTERS = [("banana", "a"), ("letter", "t"), ("success", "s")]

ASCENDING = [[7, 3, 9], [42, 15, 28, 6], [105, 51, 150, 15]]
DESCENDING = [[4, 8, 1], [33, 70, 12, 56], [99, 909, 90, 190]]
WEEK = ["星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期日"]
DAYS = [["星期五", "星期二", "星期日"], ["星期六", "星期一", "星期四", "星期三"]]

# (keys, values, the sentence the values come from)
RECORDS: list[tuple[list[str], list[str | int], str]] = [
    (["name", "age"], ["李雷", 12], "李雷今年12岁。"),
    (["name", "age"], ["周敏", 40], "周敏今年40岁。"),
    (["city", "country"], ["巴黎", "法国"], "巴黎是法国的一座城市。"),
    (["product", "price"], ["毛巾", 15], "一条毛巾的价格是15元。"),
    (["title", "author"], ["呐喊", "鲁迅"], "《呐喊》的作者是鲁迅。"),
    (["姓名", "职业"], ["赵强", "医生"], "赵强是一名医生。"),
]


def calculate(a: int, sign: str, b: int) -> int:
    """Return the result for two integers and the sign between them; a remainder is refused."""
    if sign == "÷":
        if a % b:
            raise ValueError(f"{a} ÷ {b} is not an integer")
        return a // b
    return {"+": a + b, "-": a - b, "×": a * b}[sign]


def decimal(value: Fraction) -> str:
    """Return a fraction's shortest decimal writing."""
    return str(value.numerator) if value.denominator == 1 else repr(float(value))


def conversions() -> list[Item]:
    """Return one item for each conversion of unit."""
    return [
        (f"{value}{unit}等于多少{asked}？", "", decimal(Fraction(value) * factor) + asked)
        for value, unit, asked, factor in CONVERSIONS
    ]


def counting() -> list[Item]:
    """Return items which count characters, words and letters."""
    items: list[Item] = [(f"“{text}”这句话有几个字？", "", f"{len(text)}个") for text in SENTENCES]
    items += [(f"“{'、'.join(words)}”一共有几个词？", "", f"{len(words)}个") for words in WORD_LISTS]
    items += [(f"单词{word}里有几个字母{letter}？", "", f"{word.count(letter)}个") for word, letter in LETTERS]
    return items


def sorting() -> list[Item]:
    """Return items which put numbers or days of the week in order."""
    items: list[Item] = []
    for name, table, reverse in (("从小到大", ASCENDING, False), ("从大到小", DESCENDING, True)):
        for numbers in table:
            ordered = "，".join(map(str, sorted(numbers, reverse=reverse)))
            items.append((f"把这些数按{name}的顺序排列，用逗号隔开。", "，".join(map(str, numbers)), ordered))
    for days in DAYS:
        ordered = "，".join(sorted(days, key=WEEK.index))
        items.append(("从星期一到星期日，按先后顺序排列，用逗号隔开。", "，".join(days), ordered))
    return items


def records() -> list[Item]:
    """Return items which ask for a JSON object with given keys."""
    return [
        (
            f"根据这句话写一个JSON对象，键为{'和'.join(keys)}。",
            text,
            json.dumps(dict(zip(keys, values, strict=True)), ensure_ascii=False),
        )
        for keys, values, text in RECORDS
    ]


def families() -> dict[str, list[Item]]:
    """Return every computed family by name."""
    return {
        "单位换算": conversions(),
        "算术": [(f"计算：{a} {sign} {b} = ？", "", str(calculate(a, sign, b))) for a, sign, b in SUMS],
        "应用题": [
            (text.format(a=a, b=b), "", f"{calculate(a, sign, b)}{unit}") for text, a, sign, b, unit in PROBLEMS
        ],
        "计数": counting(),
        "排序": sorting(),
        "JSON格式": records(),
    }
