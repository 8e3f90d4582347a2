"""What the terminal shows: examples, scores, a sweep."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.report.runs import evaluation, receipt, score

from heedful.records import Segment
from heedful.report import screen, tables
from heedful.report.console import Screen

SEGMENTS = [Segment("user\nName a bird.\n", False), Segment("An owl.", True), Segment("<end>", True)]


def test_what_is_learned_is_marked_where_there_are_no_colours(capsys: pytest.CaptureFixture[str]) -> None:
    long = Segment("and so on " * 40 + "\n", False)
    screen.show_segments("rows.json:2", [long, *SEGMENTS])
    told = capsys.readouterr().out
    assert told.startswith("rows.json:2; learned: what stands in « »\n")
    assert f"{long.text}user\nName a bird.\n«An owl.<end>»\n" in told


@pytest.mark.parametrize("no_colour", [False, True])
def test_a_terminal_without_colours_is_told_as_a_pipe_is(
    no_colour: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(screen, "out", Screen(force_terminal=True, color_system="standard", no_color=no_colour))
    screen.show_segments("rows.json:2", SEGMENTS)
    assert ("«" in capsys.readouterr().out) == no_colour


@pytest.mark.parametrize("default", ["lr=1e-4", None])
def test_a_sweep_says_what_its_variants_are_compared_with(
    default: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(screen, "out", Screen(width=160))
    scores = {"rouge_l": {"value": 0.5}} | {name: {"value": 0.5} for name in ("nll", "exact_match", "chrf")}
    variants: list[dict[str, Any]] = [{"name": f"lr={lr}", "scores": scores, "paired": {}} for lr in ("1e-4", "2e-4")]
    result = {
        "rows": 9, "left_out": 0, "seeds": 1, "decides": "rouge_l", "default": default, "compared_with": "lr=1e-4",
        "winner": "lr=2e-4", "variants": variants, "recipe": "winner.yaml", "diverged": [],
    }  # fmt: skip
    tables.show_sweep(result)
    told = capsys.readouterr().out
    assert ("lr=1e-4 (default)" in told) == ("- default" in told) == bool(default)
    assert ("each is compared with the first, lr=1e-4." in told) == ("- first" in told) == (not default)


def test_a_sweep_shows_the_probability_that_its_verdict_rests_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(screen, "out", Screen(width=100))
    scores = {name: {"value": 0.5} for name in ("rouge_l", "nll", "exact_match", "chrf")}
    pair = {"difference": 0.02, "p_value": 0.03, "p_value_of_all": 0.09, "verdict": "within noise; of 3 variants one"}
    tables.show_sweep({
        "rows": 9, "left_out": 0, "seeds": 1, "decides": "rouge_l", "default": None, "compared_with": "a",
        "winner": "a", "recipe": "winner.yaml", "diverged": [],
        "variants": [{"name": "b", "scores": scores, "paired": {"rouge_l": pair}}],
    })  # fmt: skip
    told = capsys.readouterr().out
    assert "0.090" in told and "0.030" not in told


NAME = "x[/y]z[v2] :smile:.json"


def test_names_with_brackets_are_shown_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(screen, "out", Screen(width=160))
    found = receipt()
    screen.show_receipt(found | {"data": found["data"] | {"path": NAME}})
    screen.show_export(Path(NAME), {"files": {NAME: {"bytes": 1}}, "precision": "fp32"}, [("the weights", NAME)])
    screen.show_shipment(Path(NAME), {NAME: 1}, "me/tuned", public=False)
    screen.out.print(f"Its report: {NAME}")
    screen.say(NAME)
    screen.problem(NAME)
    told = capsys.readouterr()
    assert told.out.count(NAME) == 7
    assert told.err == f"{NAME}\nheedful: {NAME}\n"


def test_a_score_that_one_model_alone_has_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(screen, "out", Screen(width=160))
    judge = {"rows": 9, "models": {"base": {}, "tuned": {"judge_score": score(57.0)}}, "paired": {}}
    tables.show_evaluation(evaluation() | {"judge": judge})
    assert "57.0 [57.0, 57.0]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("columns", "exact_match"),
    [(80, ["Exact match", "10.0 %", "30.0 %", "+20.0 pp [+10.0, +30.0]", "within noise"]),
     (110, ["Exact match", "10.0 % [5.0, 15.0]", "30.0 % [25.0, 35.0]", "+20.0 pp [+10.0, +30.0]", "within noise"]),
     (60, ["Exact match", "10.0 %", "30.0 %", "+20.0 pp", "within noise"])],
)  # fmt: skip
def test_a_score_is_one_line_of_the_terminal(
    columns: int, exact_match: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(screen, "out", Screen(width=columns))
    tables.show_evaluation(evaluation(verdict="within noise; about 210 rows would be needed to tell"))
    lines = capsys.readouterr().out.splitlines()
    (told,) = (line for line in lines if line.startswith("Exact match  "))
    assert re.split(r"\s{2,}", told.strip()) == exact_match
    assert "Exact match: about 210 rows would be needed to tell." in lines


def test_a_score_that_decides_is_marked_and_the_verdicts_have_colours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(screen, "out", Screen(width=80, force_terminal=True, color_system="standard"))
    tables.show_evaluation(evaluation(verdict="worse"))
    (decides,) = (line for line in capsys.readouterr().out.splitlines() if "ROUGE-L" in line)
    assert "\x1b[1mROUGE-L *" in decides and "31mworse" in decides


@pytest.mark.parametrize("columns", [60, 80])
def test_no_name_and_no_number_is_cut(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(screen, "out", Screen(width=columns))
    names, found = ("runs/smollm2-135m-rows-001", "runs/smollm2-135m-rows-002"), evaluation(verdict="better")
    models = dict(zip(names, found["models"].values(), strict=True))
    tables.show_comparison(found | {"models": models, "runs": names, "differences": {}, "decides": "rouge_l"})
    told = capsys.readouterr().out
    head = re.split("\n[─-]+\n", told)[0].splitlines()
    parts = [line.split()[:2] for line in head if "intervals" not in line and "Scores" not in line]
    assert tuple("".join(part) for part in zip(*parts, strict=True)) == names
    assert "…" not in told


def test_a_path_is_told_in_one_piece(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(screen, "out", Screen(width=40))
    recipe = "runs/a sweep of a long name, on a narrow terminal/winner.yaml"
    scores = {name: {"value": 0.5} for name in ("rouge_l", "nll", "exact_match", "chrf")}
    tables.show_sweep({
        "rows": 9, "left_out": 0, "seeds": 1, "decides": "rouge_l", "default": None, "compared_with": "lr=1e-4",
        "winner": "lr=1e-4", "variants": [{"name": "lr=1e-4", "scores": scores, "paired": {}}], "recipe": recipe,
        "diverged": [],
    })  # fmt: skip
    assert recipe in capsys.readouterr().out


def test_a_table_keeps_its_borders_where_an_ellipsis_is_no_character(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = io.TextIOWrapper(io.BytesIO(), "ascii", errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(screen, "out", Screen(width=80))
    screen.show_answers([("word " * 200, "a", "b", "c")])
    stdout.flush()
    _, *lines = stdout.buffer.getvalue().decode().splitlines()  # type: ignore[attr-defined]
    assert "..." in "".join(lines) and {len(line) for line in lines} == {80}
