"""Rows that drop out on their way to tokens are counted and told in every part; few of them stop nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import heedful
from heedful import sweep, training
from heedful.checking import check
from heedful.cli import main
from heedful.errors import DataError, UsageError
from heedful.run import Run
from heedful.system.atomic import read_json
from tests.models import byte_tokenizer, tiny_model

LONG = " and so on" * 20
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QUICK = {"train.max_steps": 1, "train.batch_size": 4, "generate.max_tokens": 4, "train.precision": "fp32"}


def turns(number: int, *, long: bool = False, system: bool = False, silent: bool = False) -> dict[str, Any]:
    said = [("user", f"Say {number}."), ("assistant", f"It is {number}." + LONG * long)]
    messages = [{"role": role, "content": text} for role, text in [("system", "Be brief.")] * system + said]
    last: dict[str, Any] = {**messages[-1], "weight": 0} if silent else messages[-1]
    return {"messages": [*messages[:-1], last]}


def parts(folder: Path, **rows: list[dict[str, Any]]) -> str:
    folder.mkdir()
    for name, told in rows.items():
        (folder / f"{name}.json").write_text(json.dumps(told), encoding="utf-8")
    return str(folder)


@pytest.fixture
def strict(tmp_path: Path) -> str:
    """A model whose own template refuses system messages."""
    tiny_model("gpt2", n_positions=256).save_pretrained(tmp_path / "strict")
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = NO_SYSTEM
    tokenizer.save_pretrained(tmp_path / "strict")
    return str(tmp_path / "strict")


@pytest.mark.parametrize("long", [1, 4])
def test_validation_rows_that_are_left_out_are_told_and_on_the_card(
    long: int, strict: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = [turns(100 + i, long=i < long) for i in range(4)]
    data = parts(tmp_path / "data", train=[turns(i) for i in range(12)], validation=held, test=[turns(200)])
    settings = {"encode.max_tokens": 100, "encode.long_rows": "drop", "train.max_steps": 1}
    settings |= {"train.batch_size": 4, "evaluate.after_training": False}
    run = heedful.train(data, model=strict, out=tmp_path / "run", settings=settings)
    why = "longer than 100 tokens"
    told = " ".join(capsys.readouterr().err.split())
    assert f"Of 4 validation rows are left out of the validation loss: {long} {why} (the first: {data}/" in told
    (places,) = json.loads(run.receipt_file.read_text())["encoding"]["not_validated"].values()
    assert [place.split("(")[1] for place in places] == [f"row {i + 1})" for i in range(long)]
    card = (run.model / "README.md").read_text(encoding="utf-8")
    assert f"{4 - long} of 4 for the validation loss, 1 for the scores" in card
    assert f"- validation rows left out, {why}: {long}\n" in card
    assert "validation rows left out" in run.report_file.read_text(encoding="utf-8")
    assert ("There was no row for a validation loss" in card) == (long == 4)


@pytest.mark.parametrize("answers", [True, False])
def test_a_training_says_how_many_rows_wait_for_what(
    answers: bool, strict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "MANY_ANSWERS", 3)
    monkeypatch.setattr(training, "score_both", lambda *arguments: None)
    test = [turns(200 + i, silent=i == 0) for i in range(4)]
    data = parts(tmp_path / "data", train=[turns(i) for i in range(12)], validation=[turns(100)], test=test)
    settings = {**QUICK, "evaluate.after_training": answers}
    heedful.train(data, model=strict, out=tmp_path / "run", settings=settings)
    told = " ".join(capsys.readouterr().err.split())
    assert f"12 rows to train on, 1 to validate on, {3 * answers} to answer at the end." in told
    assert ("leaves the answers out" in told) == answers


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_few_bad_rows_of_all_are_skipped_though_many_of_their_part(part: str, strict: str, tmp_path: Path) -> None:
    rows = {name: [turns(start + i) for i in range(20)] for start, name in enumerate(("train", "validation", "test"))}
    rows[part][:3] = [turns(i, system=True) for i in range(3)]  # 15 % of the part, 5 % of all
    data = parts(tmp_path / "data", **rows)
    encoding = check(data, model=strict, settings={"data.on_bad_row": "skip"}).receipt["encoding"]
    refused = {"train": encoding["refused"], "validation": encoding["not_validated"], "test": encoding["not_scored"]}
    left_out = refused[part].get("refused by the template", refused[part])
    assert len(left_out) == 3 and not any(refused[other] for other in refused if other != part)


def test_what_is_skipped_already_is_not_proposed_to_be_skipped(strict: str, tmp_path: Path) -> None:
    data = parts(tmp_path / "data", train=[turns(i, system=i < 2) for i in range(30)])
    for asked in ("error", "skip"):
        with pytest.raises(DataError) as error:
            check(data, model=strict, settings={"data.on_bad_row": asked, "data.test_share": 0.0})
        assert "(2 of 30 rows). Change or remove what the template refuses, or choose --set encode" in str(error.value)
        assert "--on-bad-row skip" not in str(error.value)  # more than are skipped
        assert ("At most 5% of the rows are skipped." in str(error.value)) == (asked == "skip")


def test_what_is_bad_in_two_ways_is_told_of_both(strict: str, tmp_path: Path) -> None:
    train = [turns(i, silent=i < 3, system=i == 9) for i in range(100)]
    data = parts(tmp_path / "data", train=train, test=[turns(200)])
    with pytest.raises(DataError) as error:
        check(data, model=strict)
    told = str(error.value)
    assert "(row 10): The template 'own' refuses a conversation: no system (1 of 101 rows)." in told
    assert re.search(r"\(row [123]\): every assistant's message has the weight 0, .* \(3 of 101 rows\)\.", told)
    assert told.endswith("remove the row. Or let --on-bad-row skip leave out what is bad.")


def test_a_part_without_any_row_to_learn_is_named_by_why(strict: str, tmp_path: Path) -> None:
    """Also where those are few of all."""
    data = parts(tmp_path / "data", train=[turns(0, system=True)], test=[turns(i) for i in range(1, 30)])
    with pytest.raises(DataError, match=r"0 of 1 rows are left to train on: 1 refused by the template \(the first"):
        check(data, model=strict, settings={"data.on_bad_row": "skip", "data.validation_share": 0.0})


def test_a_row_that_one_variant_cannot_score_is_left_out_for_all(
    strict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("loss_plot", "write_pages"):  # pictures, pages and probes have tests of their own
        monkeypatch.setattr(training, name, lambda *arguments: None)
    monkeypatch.setattr("heedful.evaluate.base_and_tuned.probe", lambda *arguments: [])
    test = [turns(200 + i, system=i == 3, silent=i == 5) for i in range(20)]
    data = parts(tmp_path / "data", train=[turns(i) for i in range(12)], validation=[turns(100)], test=test)
    settings = [f"--set={leaf}={value}" for leaf, value in {**QUICK, "data.on_bad_row": "skip"}.items()]
    asked = ["sweep", data, "--vary", "encode.template=alpaca,own", "-m", strict, *settings]
    with pytest.raises(SystemExit, match="0"):
        main([*asked, "--out", str(tmp_path / "sweep")])
    said = capsys.readouterr().out
    assert "Sweep on 18 test rows" in said and "Test rows left out, as not every run scored them: 2." in said
    found = read_json(tmp_path / "sweep" / "sweep.json")
    assert (found["rows"], found["left_out"], Path(found["recipe"]).is_file()) == (18, 2, True)
    alpaca, own = (Run(Path(variant["runs"][0])) for variant in found["variants"])
    assert [len(run.scores_file.read_text().splitlines()) for run in (alpaca, own)] == [19, 18]
    alpaca_scores, own_scores = (variant["scores"]["rouge_l"] for variant in found["variants"])
    assert alpaca_scores["n"] == own_scores["n"] == 18
    assert [v["by_seed"] for v in found["variants"]] == [[s["value"]] for s in (alpaca_scores, own_scores)]
    kept = [json.loads(line) for line in alpaca.scores_file.read_text().splitlines() if "(row 4)" not in line]
    assert alpaca_scores["value"] == pytest.approx(sum(row["models"]["tuned"]["rouge_l"] for row in kept) / 18)


@pytest.mark.parametrize(
    ("share", "told"),
    [
        (0.5, "None of the 6 test rows can be scored by every run: 6 with a last answer of weight 0 (the first: "),
        (0.0, "A sweep needs test rows, and none were held back. Set data.test_share above 0."),
    ],
)
def test_without_test_rows_to_score_nothing_is_trained(share: float, told: str, strict: str, tmp_path: Path) -> None:
    rows: dict[str, Any] = {"train": [turns(i) for i in range(12)], "validation": [turns(100)]}
    if share:
        rows["test"] = [turns(200 + i) for i in range(6)]
        for row in rows["test"]:
            row["messages"][-1]["weight"] = 0
    data = parts(tmp_path / "data", **rows)
    settings = {**QUICK, "data.test_share": share}
    with pytest.raises(UsageError) as error:
        sweep.sweep(data, model=strict, vary=["train.lr=1e-4,2e-4"], settings=settings, out=tmp_path / "sweep")
    assert told in str(error.value)
    assert not (tmp_path / "sweep").exists()


def test_a_variant_that_can_score_nothing_is_found_before_another_is_trained(strict: str, tmp_path: Path) -> None:
    one, other = turns(200, system=True), turns(201)
    one["messages"][-1]["content"] = "Yes."
    other["messages"][-1]["weight"] = 0
    data = parts(tmp_path / "data", train=[turns(i) for i in range(60)], validation=[turns(100)], test=[one, other])
    settings = {**QUICK, "data.on_bad_row": "skip"}
    with pytest.raises(
        UsageError, match=r"None of the 2 test rows .*: 1 with .*; 1 refused by the template \(the first"
    ):
        sweep.sweep(data, model=strict, vary=["encode.template=alpaca,own"], settings=settings, out=tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()
