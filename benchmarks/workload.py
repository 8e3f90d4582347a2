"""What a contestant works on: a model folder and rows as token ids, in the order in which all contestants take them.

`python -m benchmarks.workload NAME --out FILE` writes one; it is made in a process of its own, so that no contestant
and not the process that starts them has to load what makes it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import documents, models

ALPACA = {"encode.template": "alpaca", "encode.max_tokens": 1024}


@dataclass(frozen=True)
class Workload:
    """Rows for training in `groups` of 8, one group an update, and prompts to answer."""

    name: str
    model: str  # a folder that every library loads
    data: str  # the file that heedful reads; peers get the token ids
    settings: dict[str, Any]  # heedful's, under which the file gives these ids in these groups
    pad_id: int
    stop_ids: list[int]
    ids: list[list[int]]
    response: list[list[bool]]  # which of the ids are of an answer
    groups: list[list[int]]
    prompts: list[list[int]] = field(default_factory=list)

    def rows(self, step: int, learn: str) -> list[tuple[list[int], list[bool]]]:
        """Give update `step`'s rows: ids, and which are learned ("all" but the first, or the "response")."""
        group = self.groups[step]
        return [
            (self.ids[i], self.response[i] if learn == "response" else [False] + [True] * (len(self.ids[i]) - 1))
            for i in group
        ]


@dataclass(frozen=True)
class Source:
    """What the user named."""

    data: str = "builtin"
    split: str = "leak_aware"
    quick: bool = False
    scratch: Path = Path(".bench")


def read(path: Path) -> Workload:
    return Workload(**json.loads(path.read_text(encoding="utf-8")))


def gpt2(source: Source) -> Workload:
    """The given rows as the tutorial's text, for GPT-2 124M with random weights and its own tokenizer."""
    return _encode("gpt2", models.gpt2(source), source.data, {**ALPACA, "data.split": source.split}, source)


def smollm2(source: Source) -> Workload:
    """The given rows as the tutorial's text, for SmolLM2-135M with its real weights."""
    return _encode("smollm2", models.smollm2(source), source.data, {**ALPACA, "data.split": source.split}, source)


def answers(source: Source) -> Workload:
    """The prompts of the test rows, for SmolLM2-135M after an epoch on the training rows: its answers are short."""
    folder = models.tuned(source, {**ALPACA, "data.split": source.split})
    return _encode("answers", folder, source.data, {**ALPACA, "data.split": source.split}, source)


def one_document(source: Source) -> Workload:
    """One long document with 8 questions: every update is those 8 rows."""
    return _long("one_document", source, documents.questions(documents=1, short=source.quick))


def many_documents(source: Source) -> Workload:
    """24 long documents with 8 questions each, in the order that heedful plans."""
    return _long("many_documents", source, documents.questions(documents=24, short=source.quick))


def chats(source: Source) -> Workload:
    """Chats of 8 turns."""
    return _long("chats", source, documents.chats(count=64, short=source.quick))


def apart(source: Source) -> Workload:
    """Chats of one question, each with a system message of its own: they share an eighth of their tokens."""
    return _long("apart", source, documents.apart(count=64))


OF_MADE_ROWS = {make.__name__: make for make in (one_document, many_documents, chats, apart)}
WORKLOADS: dict[str, Callable[[Source], Workload]] = {
    **{make.__name__: make for make in (gpt2, smollm2, answers)},
    **OF_MADE_ROWS,
}


def _long(name: str, source: Source, rows: list[dict[str, Any]]) -> Workload:
    """Write made rows to a file that heedful reads as chats, all of them for training."""
    path = source.scratch / "data" / f"{name}{'-quick' * source.quick}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows), encoding="utf-8")
    whole: dict[str, Any] = {"encode.template": "chatml" if source.quick else "own", "data.split": "in_order"}
    whole |= {"data.test_share": 0.0, "data.validation_share": 0.0}
    return _encode(name, models.smollm2(source), str(path), whole, source)


def _encode(name: str, model: Path, data: str, settings: dict[str, Any], source: Source) -> Workload:
    from benchmarks.heedful_api import encode

    return Workload(name, str(model), data, settings, **encode(model, data, settings))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=WORKLOADS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--source", type=json.loads, default={})
    given = parser.parse_args()
    source = Source(**{**given.source, "scratch": Path(given.source.get("scratch", Source.scratch))})
    workload = WORKLOADS[given.name](source)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(asdict(workload)), encoding="utf-8")


if __name__ == "__main__":
    main()
