"""Rows that are made for a test: unlike each other, alike, or of one conversation."""

import json
import random
from pathlib import Path
from typing import Any

from heedful.config import DataConfig
from heedful.data import DataReceipt, load_splits
from heedful.records import Splits


def given_rows(path: Path, questions: list[str], **settings: object) -> tuple[Splits, DataReceipt]:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps([{"instruction": text, "output": "yes"} for text in questions]))
    return load_splits(DataConfig.model_validate({"path": str(path), **settings}))


def talk(row: list[tuple[str, str]]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in row]}


def unrolled(talks: int, turns: int) -> list[list[tuple[str, str]]]:
    """Conversations, each stored as a row for every answer: [u1, a1], [u1, a1, u2, a2], ..."""
    texts = iter(distinct(2 * talks * turns))
    whole = [[(role, next(texts)) for _ in range(turns) for role in ("user", "assistant")] for _ in range(talks)]
    return [row[: 2 * answers] for row in whole for answers in range(1, turns + 1)]


WORDS = [a + b for a in ("ba", "ke", "lo", "mi", "zu", "shra", "tem") for b in ("nd", "pling", "rgo", "sk", "wen", "x")]


def distinct(number: int, seed: int = 0) -> list[str]:
    choose = random.Random(seed)
    return [f"{index} " + " ".join(choose.choices(WORDS, k=9)) for index in range(number)]


def questions(path: Path, count: int) -> DataConfig:
    choose = random.Random(0)
    rows = [{"instruction": f"{n} {choose.random()} {choose.random()}", "output": "y"} for n in range(count)]
    path.write_text(json.dumps(rows))
    return DataConfig(path=str(path))
