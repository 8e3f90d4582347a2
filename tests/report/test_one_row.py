"""Scores of one row have no interval, except those of shares: on the page, on the card, in the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from tests.report.runs import finished_run

from heedful.evaluate.rows import Cell, RowScores
from heedful.evaluate.summary import evaluation
from heedful.report import card, tables
from heedful.report.page import compare_page, write_report
from heedful.report.scores import score_table
from heedful.run import Run
from heedful.system.atomic import read_json, write_json

PAIR = ("base", "tuned")
OF = {"data": "rows.json", "rows": "held back", "settings": {}}


def row(number: int, rouge_l: tuple[float, float] | None) -> RowScores:
    values = [{"nll": 2.0 - k, "exact_match": float(k)} for k in range(2)]
    for told, value in zip(values, rouge_l or (), strict=False):
        told["rouge_l"] = value
    cells = [Cell(told, {"targets": 2.0}, {"corpus_bleu": [1, 1, 1, 1, 1, 1, 1, 1, 4, 4]}) for told in values]
    return RowScores(str(number), f"rows.json:{number}", f"key {number}", dict(zip(PAIR, cells, strict=True)))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = finished_run(tmp_path / "one", rows=1)
    write_json(run.evaluation_file, evaluation([row(1, (0.25, 0.5))], "rouge_l") | {"of": OF})
    return run


def test_a_page_and_a_card_of_one_row(run: Run) -> None:
    page = write_report(run).read_text(encoding="utf-8")
    assert "rose from 0.250 to 0.500 (+0.250; p = 1.000) on 1 row." in page
    assert "within noise; one row cannot tell" in page
    assert "None" not in page and "0.250 – 0.250" not in page
    path = card.write_card(run)
    assert path is not None
    told = path.read_text(encoding="utf-8").replace("\u00a0", " ")
    assert "| ROUGE-L (decides) | 0.250 | 0.500 | +0.250 | within noise; one row cannot tell |" in told
    assert "| NLL of the reference | 2.000 | 1.000 | −1.000 | within noise; one row cannot tell |" in told
    assert "| Exact match | 0.0 % [0.0 %, 79.3 %] | 100.0 % [20.7 %, 100.0 %] | +100.0 pp [" in told
    results = {result.metric_type: result.metric_args for result in ModelCard.load(path).data.eval_results or []}
    assert (results["nll"], set(results["exact_match"])) == ({"rows": 1}, {"low", "high", "rows"})


def test_pictures_of_one_row_have_dots_alone(run: Run) -> None:
    rouge_l, nll, exact_match, bleu = score_table(read_json(run.evaluation_file))["rows"]
    for told in (rouge_l, nll, bleu):
        assert [(mark["low"], mark["high"]) for mark in told["plot"]["marks"]] == [(None, None)] * 2
    assert nll["plot"]["marks"][0]["value"] > nll["plot"]["marks"][1]["value"] > 100, "2 and 1 on a scale from 0"
    assert exact_match["plot"]["marks"][0]["high"] > 100
    assert rouge_l["alt"] == "ROUGE-L: Before 0.250; After 0.500"


def test_a_score_that_one_row_of_several_has(tmp_path: Path) -> None:
    found = evaluation([row(1, (0.25, 0.5)), row(2, None), row(3, None)], "rouge_l")
    rouge_l, nll, *_ = score_table(found)["rows"]
    assert [rouge_l["cells"][0]["below"], rouge_l["pair"]["below"]] == ["n = 1"] * 2
    assert nll["cells"][0]["below"] == "2.000 – 2.000"


def test_two_runs_on_one_row(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = evaluation([row(1, (0.25, 0.5))], "rouge_l") | {"differences": {}, "runs": list(PAIR)}
    tables.show_comparison(found)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["ROUGE-L", "*", "0.250", "0.500", "+0.250", "within", "noise"] in lines
    page = compare_page(finished_run(tmp_path / "other"), run, found).read_text(encoding="utf-8")
    assert "(+0.250; p = 1.000) on 1 row." in page
    assert "None" not in page
