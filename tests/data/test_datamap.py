"""The data map finds answers that were put to other questions on purpose, and says where they stand."""

from __future__ import annotations

import os
import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from tests.models import byte_tokenizer, tiny_model
from tests.train.sessions import POSITIONS, Screen

from heedful import pipeline
from heedful.data import load_splits
from heedful.data.datamap import DataMap, data_map, why, write_data_map
from heedful.data.row_losses import RowLosses
from heedful.encode.prepare import prepare
from heedful.model.catalogue import CATALOGUE, wheel_file
from heedful.model.pretrained import Loaded
from heedful.records import Conversation, Message, Place, Splits
from heedful.run import Run
from heedful.settings import load_config
from heedful.system.atomic import read_json, write_json
from heedful.train.session import Session

SWAPPED = 0.03  # of the rows
LIFT = 8  # times what chance would find


def swap(answers: list[str], seed: int) -> tuple[list[str], set[int]]:
    """Hand on the answers of 3 % of the rows in a ring, each to a question with another answer."""
    draw, swapped = random.Random(seed), list(answers)
    chosen = draw.sample(range(len(answers)), round(SWAPPED * len(answers)))
    while any(answers[i] == answers[chosen[at - 1]] for at, i in enumerate(chosen)):
        draw.shuffle(chosen)
    for at, i in enumerate(chosen):
        swapped[i] = answers[chosen[at - 1]]
    return swapped, set(chosen)


def lift(found: list[int], planted: set[int], rows: int) -> float:
    """Return how many times more of the planted rows the top 3 % of the list hold than chance would."""
    top = found[: round(SWAPPED * rows)]
    return len(planted & set(top)) / (len(top) * len(planted) / rows)


def test_a_tiny_model_finds_swapped_answers(tmp_path: Path) -> None:
    """300 rows of six kinds, learned from nothing: "Say b!" is answered "bbbb"."""
    letters = [chr(ord("a") + k % 6) for k in range(300)]
    answers, planted = swap([letter * 4 for letter in letters], seed=0)
    turns = [
        (Message("user", f"Say {letter}!"), Message("assistant", answer))
        for letter, answer in zip(letters, answers, strict=True)
    ]
    rows = tuple(Conversation(str(k), turn, Place("rows.json", k + 1)) for k, turn in enumerate(turns))
    settings = {"encode.template": "chatml", "train.precision": "fp32", "train.batch_size": 4, "train.lr": 1e-2}
    config = load_config(None, settings, {"train.epochs": 3})
    ready = prepare(config, Splits(rows, (), ()), {}, byte_tokenizer(), POSITIONS)
    loaded = Loaded(tiny_model("llama", initializer_range=0.1), byte_tokenizer(), "tiny")
    trained = Session(Run(tmp_path), config, ready, loaded, Screen().around())
    assert trained.fit() == 0
    orders = [trained.ready.order.epoch(epoch).rows for epoch in range(config.train.epochs)]
    found = data_map(*trained.row_losses.per_token(), orders).order().tolist()
    assert lift(found, planted, len(rows)) >= LIFT


@pytest.mark.skipif(
    not os.environ.get("HEEDFUL_SLOW"), reason="it trains the default model for minutes: set HEEDFUL_SLOW=1 to run it"
)
def test_the_default_model_finds_swapped_answers_in_the_shipped_rows(tmp_path: Path) -> None:
    wheel = CATALOGUE["smollm2-135m"].wheel
    assert wheel is not None and wheel_file(wheel) is not None, "the model's wheel is not installed"
    splits, _ = load_splits(load_config(None, {"data.test_share": 0, "data.validation_share": 0}).data)
    rows = [dict(row.row) for row in sorted(splits.train, key=lambda row: row.place.row)]
    answers, planted = swap([row["output"] for row in rows], seed=2)
    write_json(tmp_path / "rows.json", [{**row, "output": answer} for row, answer in zip(rows, answers, strict=True)])
    run = pipeline.train(str(tmp_path / "rows.json"), out=tmp_path / "run", settings={"evaluate.after_training": False})
    told = read_json(run.data_map_file)
    trained = {row.place.row - 1 for row in load_splits(run.config().data)[0].train}
    found = [int(row["place"].rpartition("(row ")[2].rstrip(")")) - 1 for row in told["look"]]
    assert lift(found, planted & trained, len(trained)) >= LIFT


def test_rows_are_easy_hard_or_suspect() -> None:
    nll = np.array([[0.1, 0.2, 1.0, 1.1] * 25, [0.05, 0.1, 0.8, 0.9] * 25])
    nll[:, 7] = 6.0
    found = data_map(nll, np.full(100, 5), [np.arange(100), np.arange(100)[::-1]])
    kinds = found.kinds()
    assert kinds[7] == "s"
    assert found.order()[0] == 7
    assert kinds[:2] == "ee"
    assert kinds.count("s") == 3


def test_the_reason_tells_memory_from_no_learning() -> None:
    assert why([5.0, 4.5]) == "high, and not halved"
    assert why([5.0, 0.3]) == "high, and falling only by memory"
    assert why([5.0, float("nan")]) == "high"


def test_the_map_names_file_and_line_and_skips_what_was_not_trained(tmp_path: Path) -> None:
    run, rows = Run(tmp_path), 20
    trained = [row for row in range(rows) if row != 3]
    RowLosses(run.row_losses_file, rows).keep(0, trained, [9.0 if row == 2 else 1.0 for row in trained], [2] * 19)
    turns = (Message("user", "Q", input="I"), Message("assistant", "A"))
    place = lambda k: Place("f.json", k + 1, 10 * k)  # noqa: E731
    told = write_data_map(run, [np.arange(rows)], lambda k: Conversation(str(k), turns, place(k)), rows)
    assert (told["rows"], told["trained"], told["suspect"]) == (20, 19, 1)
    assert (told["unmet"], told["kinds"][3], told["easy"] + told["hard"]) == (1, "u", 18)
    assert "f.json:30 (row 4)" not in [row["place"] for row in told["look"]]
    assert told["look"][0] == {
        "place": "f.json:20 (row 3)", "question": "Q\n\nI", "answer": "A", "losses": [4.5], "why": "high",
    }  # fmt: skip
    assert read_json(run.data_map_file) == told


def test_a_run_without_losses_has_an_empty_map(tmp_path: Path) -> None:
    told = write_data_map(Run(tmp_path), [np.arange(3)], lambda k: pytest.fail("no row is read"), 3)
    assert told["look"] == []


def test_the_kinds_of_many_rows_take_a_few_bytes_each() -> None:
    rows = 200_000
    found = DataMap(np.full(rows, np.nan), np.zeros(rows, np.bool_), np.zeros(rows, np.bool_))
    tracemalloc.start()
    assert found.kinds() == "u" * rows
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * rows, f"{peak / rows:.0f} bytes a row"
