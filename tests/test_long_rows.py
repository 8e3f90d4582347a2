"""Rows longer than the model: trained on, sampled and evaluated as they were cut, none of which stops a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import heedful
from tests.conftest import make_rows
from tests.models import byte_tokenizer, tiny_model

POSITIONS = 128
LONG = "Give the last word of what follows. " + "and so on " * 30


def asked(question: str, answer: str, learned: bool) -> dict[str, Any]:
    reply = {"role": "assistant", "content": answer, "weight": int(learned)}
    return {"messages": [{"role": "user", "content": question}, reply]}


def test_a_run_of_rows_longer_than_the_model_ends_with_scores(tmp_path: Path) -> None:
    tiny_model("gpt2", n_positions=POSITIONS).save_pretrained(tmp_path / "tiny")
    byte_tokenizer().save_pretrained(tmp_path / "tiny")
    rows = [asked(f"{LONG}{i}", row["output"], i < 34) for i, row in enumerate(make_rows(38))]
    rows[35] = asked("Short.", "Yes.", False)  # the second of four test rows, of which nothing is learned
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    settings = {"train.epochs": 1, "train.batch_size": 16, "generate.max_tokens": 4, "encode.template": "chatml"}
    settings |= {"data.split": "in_order", "data.validation_share": 0.0}
    run = heedful.train(tmp_path / "rows.json", model=str(tmp_path / "tiny"), out=tmp_path / "run", settings=settings)
    scores, answers = json.loads(run.evaluation_file.read_text()), json.loads(run.responses_file.read_text())
    assert (scores["rows_cut"], len(answers)) == (3, 4)
    assert [answer["messages"] for answer in answers] == [row["messages"] for row in rows[34:]]  # as they were
    assert any(event["event"] == "sample" for event in run.metrics())
