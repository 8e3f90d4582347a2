"""Rows that drop out on their way to tokens are counted in whatever part they stand, told, and few of them stop nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.models import byte_tokenizer, tiny_model

import heedful
from heedful.checking import check
from heedful.errors import DataError

LONG = " and so on" * 20
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def turns(number: int, *, long: bool = False, system: bool = False) -> dict[str, Any]:
    said = [("user", f"Say {number}."), ("assistant", f"It is {number}." + LONG * long)]
    return {"messages": [{"role": role, "content": text} for role, text in [("system", "Be brief.")] * system + said]}


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
    assert ("There was no row for a validation loss" in card) == (long == 4)


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
    for asked, told in (("error", "unusable). Change or remove the row, let --on-bad-row skip leave it out, or choose"),
                        ("skip", "unusable, more than 5%). Change or remove the row, or choose")):  # fmt: skip
        with pytest.raises(DataError) as error:
            check(data, model=strict, settings={"data.on_bad_row": asked, "data.test_share": 0.0})
        assert f"(2 of 30 rows are {told} --set encode.template=alpaca." in str(error.value)


def test_a_part_without_any_row_to_learn_is_named_by_why(strict: str, tmp_path: Path) -> None:
    """Also where those are few of all."""
    data = parts(tmp_path / "data", train=[turns(0, system=True)], test=[turns(i) for i in range(1, 30)])
    with pytest.raises(DataError, match=r"0 of 1 rows are left to train on: 1 refused by the template \(the first"):
        check(data, model=strict, settings={"data.on_bad_row": "skip", "data.validation_share": 0.0})
