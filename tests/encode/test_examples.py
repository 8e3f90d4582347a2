"""Examples on disk are those of the encoder; a kill costs a chunk at most; what is damaged is encoded again."""

from __future__ import annotations

import importlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.encode.encoders import conversation, gpt2_tokenizer
from tests.models import byte_tokenizer, gapped_tokenizer
from tests.processes import Process

from heedful.config import Config
from heedful.data import load_splits
from heedful.encode import examples as on_disk
from heedful.encode.examples import Examples, write_examples
from heedful.encode.prepare import Prepared, prepare
from heedful.encode.tokenise import Encoder, build_encoder
from heedful.records import Conversation, Message, Place
from heedful.reporter import Reporter
from heedful.settings import load_config

CHUNK = 16


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in ("tokenise", "examples", "prepare"):
        monkeypatch.setattr(f"heedful.encode.{module}.CHUNK", CHUNK)
    monkeypatch.setattr("heedful.reporter.BETWEEN_COUNTS", -1)
    monkeypatch.setenv("HEEDFUL_HOME", str(tmp_path / "home"))


def encoder() -> Encoder:
    return build_encoder(load_config(None, {"encode.template": "chatml"}).encode, byte_tokenizer(), 60)


def conversations(count: int) -> list[Conversation]:
    """Make rows of which every seventh is too long, and every fifth holds a special token's name."""
    texts = [f"{n} " + "é" * (n % 9) + "<|im_end|>" * (n % 5 == 0) + "long " * 20 * (n % 7 == 0) for n in range(count)]
    place = Place("rows.json", 1)
    return [
        Conversation(f"rows:{n}", (Message("user", text), Message("assistant", text[:5])), place)
        for n, text in enumerate(texts)
    ]


def opened(folder: Path, rows: list[Conversation]) -> Examples:
    return Examples(folder, "uint16", lambda number: rows[number].id)


@pytest.mark.parametrize("count", [0, 1, CHUNK, 100])
@pytest.mark.parametrize("ids", ["uint16", "int32"])
def test_what_is_read_is_what_was_encoded(tmp_path: Path, count: int, ids: str) -> None:
    rows = conversations(count)
    expected, receipt = encoder().encode(rows)
    facts = write_examples(tmp_path, encoder(), rows, ids, lambda done: None)
    found = Examples(tmp_path, ids, lambda number: rows[number].id)
    assert facts["receipt"] == json.loads(json.dumps(receipt.__dict__))
    assert [e.id for e in found] == [e.id for e in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.ids.dtype == np.int32
        assert one.ids.tolist() == other.ids.tolist()
        assert one.supervised.tolist() == other.supervised.tolist()
    assert found.tokens.tolist() == list(map(len, expected))
    assert found.answer_tokens.tolist() == [int(e.supervised.sum()) for e in expected]
    if count:
        assert found[-1].id == expected[-1].id
        assert [e.id for e in found[1:4]] == [e.id for e in expected[1:4]]


def test_ids_of_a_large_vocabulary_keep_four_bytes() -> None:
    assert (on_disk.ids_type(65_536), on_disk.ids_type(65_537)) == ("uint16", "int32")


def test_a_vocabulary_with_gaps_is_as_large_as_its_largest_id(tmp_path: Path) -> None:
    asked = config(tmp_path / "d.json")
    splits, receipt = load_splits(asked.data)
    splits = replace(splits, train=[conversation("z", "zz")])
    ready = prepare(asked, splits, receipt.as_dict(), gapped_tokenizer(70_000), 500)
    assert ready.train[0].ids.tolist().count(70_000) == 3


class Killed(Exception):
    pass


def stop_at(rows: int) -> Callable[[int], None]:
    def done(number: int) -> None:
        if number >= rows:
            raise Killed

    return done


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: None,
        lambda folder: add(folder / "examples.bin", b"torn"),
        lambda folder: add(folder / "chunks.jsonl", b'{"reached": [3'),
        lambda folder: os.truncate(folder / "index.bin", (folder / "index.bin").stat().st_size - 5),
        lambda folder: flip(folder / "examples.bin"),
        lambda folder: (folder / "chunks.jsonl").write_bytes(b"\xff\n"),
        lambda folder: (folder / "index.bin").unlink(),
    ],
)
def test_a_part_is_continued_to_the_bytes_of_the_whole(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    rows = conversations(100)
    whole, part = tmp_path / "whole", tmp_path / "part"
    whole.mkdir()
    part.mkdir()
    facts = write_examples(whole, encoder(), rows, "uint16", lambda done: None)
    with pytest.raises(Killed):
        write_examples(part, encoder(), rows, "uint16", stop_at(50))
    harm(part)
    assert write_examples(part, encoder(), rows, "uint16", lambda done: None) == facts
    assert files(part) == files(whole)


def add(path: Path, data: bytes) -> None:
    path.write_bytes(path.read_bytes() + data)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_what_is_done_is_not_encoded_again(tmp_path: Path) -> None:
    rows, seen = conversations(100), []
    with pytest.raises(Killed):
        write_examples(tmp_path, encoder(), rows, "uint16", stop_at(50))
    write_examples(tmp_path, encoder(), rows, "uint16", seen.append)
    assert seen == list(range(49, 101))  # 48 were done


def config(path: Path, count: int = 90) -> Config:
    choose = random.Random(0)
    rows = [{"instruction": f"{n} {choose.random()}", "output": f"{choose.random()}"} for n in range(count)]
    path.write_text(json.dumps(rows))
    return load_config(None, {"data.path": str(path), "encode.template": "chatml"})


def prepared(config: Config) -> Prepared:
    splits, receipt = load_splits(config.data)
    return prepare(config, splits, receipt.as_dict(), byte_tokenizer(), 500)


def test_a_finished_encoding_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = config(tmp_path / "d.json")
    first = prepared(asked)
    monkeypatch.setattr(Encoder, "chunks", None)
    again = prepared(asked)
    assert again.receipt == first.receipt
    assert again.fingerprint() == first.fingerprint()
    assert [e.ids.tolist() for e in again.train] == [e.ids.tolist() for e in first.train]
    assert [e.id for e in again.train] == [row.id for row in again.splits.train]


def test_other_settings_are_another_encoding(tmp_path: Path) -> None:
    asked = config(tmp_path / "d.json")
    prints = {prepared(asked).fingerprint()}
    for leaf, value in (("encode.supervise", "all"), ("encode.template", "alpaca"), ("encode.max_tokens", 60)):
        changed = load_config(None, {"data.path": asked.data.path, "encode.template": "chatml", leaf: value})
        prints.add(prepared(changed).fingerprint())
    assert len(prints) == 4


def test_a_damaged_encoding_is_made_again(tmp_path: Path) -> None:
    asked = config(tmp_path / "d.json")
    first = prepared(asked)
    expected = [e.ids.tolist() for e in first.train]
    for path in (tmp_path / "home" / "examples").glob("*/examples.bin"):
        flip(path)
    again = prepared(asked)
    assert again.fingerprint() == first.fingerprint()
    assert [e.ids.tolist() for e in again.train] == expected


def test_long_work_is_counted_and_a_used_cache_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heedful.encode.prepare.MANY_ROWS", 50)
    monkeypatch.setattr("heedful.reporter.SHORT", 0)
    asked, counted, said = config(tmp_path / "d.json"), [], []

    class Counting:
        def __init__(self, what: str, total: int) -> None:
            counted.append((what, total))

        def __enter__(self) -> Callable[[int], None]:
            return counted.append

        def __exit__(self, *_: object) -> None:
            pass

    splits, receipt = load_splits(asked.data)
    for _ in range(2):
        prepare(asked, splits, receipt.as_dict(), byte_tokenizer(), 500, Reporter(said.append, Counting))
    assert counted[:78] == [("Encoding the train rows", 77), *range(1, 78)]
    assert [told for told in counted if isinstance(told, tuple)] == [
        (f"Encoding the {part} rows", len(rows))
        for part, rows in (("train", splits.train), ("validation", splits.validation), ("test", splits.test))
    ]
    assert len(said) == 1
    assert said[0].startswith("The train rows were encoded before")


MEASURE = """
import resource, sys
from heedful import data
from heedful.settings import load_config
from heedful.encode.prepare import prepare
from tests.encode.encoders import gpt2_tokenizer
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
config, tokenizer = load_config(None, {"data.path": sys.argv[1], "encode.template": "alpaca"}), gpt2_tokenizer()
tokenizer("warm up")
idle = peak()
splits, receipt = data.load_splits(config.data)
ready = prepare(config, splits, receipt.as_dict(), tokenizer, 500)
print(len(ready.train), len(splits.test), peak() - idle)
"""


def test_memory_holds_a_few_integers_a_row(tmp_path: Path) -> None:
    gpt2_tokenizer()
    path = config(tmp_path / "d.json", 30_000).data.path  # as lists, twice as many took 145 MiB
    done = subprocess.run([sys.executable, "-c", MEASURE, path], stdout=subprocess.PIPE, text=True, check=True)
    train, test, grown = map(int, done.stdout.split())
    assert train + test == 28_500
    assert grown < 45  # MiB


def _encode(path: str) -> None:
    for module in ("tokenise", "examples", "prepare"):
        importlib.import_module(f"heedful.encode.{module}").CHUNK = CHUNK  # type: ignore[attr-defined]
    print(prepared(load_config(None, {"data.path": path, "encode.template": "chatml"})).fingerprint())


def test_a_process_that_is_killed_leaves_its_work_to_the_next(tmp_path: Path) -> None:
    asked = config(tmp_path / "d.json", 6000)
    expected = prepared(asked).fingerprint()
    home = tmp_path / "other"
    process = Process(tmp_path, _encode, asked.data.path, environment={"HEEDFUL_HOME": str(home)})

    def chunks() -> int:
        return sum(path.read_bytes().count(b"\n") for path in (home / "examples").glob("*/chunks.jsonl"))

    while chunks() < 40:
        assert process.poll() is None, process.stderr
        time.sleep(0.001)
    process.kill()
    (folder,) = (path.parent for path in (home / "examples").glob("*/chunks.jsonl"))
    done, before = chunks(), (folder / "chunks.jsonl").read_bytes().splitlines()[:40]
    assert not (folder / "MANIFEST.json").exists(), f"killed too late, after {done} chunks"
    again = Process(tmp_path, _encode, asked.data.path, environment={"HEEDFUL_HOME": str(home)})
    assert again.wait() == 0, again.stderr
    assert again.stdout.split()[-1] == expected
    assert (folder / "chunks.jsonl").read_bytes().splitlines()[:40] == before
