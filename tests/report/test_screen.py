"""What the terminal shows of an example and of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.report.runs import evaluation, receipt, score

from heedful.records import Segment
from heedful.report import screen
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
        "rows": 9, "seeds": 1, "decides": "rouge_l", "default": default, "compared_with": "lr=1e-4",
        "winner": "lr=2e-4", "variants": variants, "recipe": "winner.yaml",
    }  # fmt: skip
    screen.show_sweep(result)
    told = capsys.readouterr().out
    assert ("lr=1e-4 (default)" in told) == ("- default" in told) == bool(default)
    assert ("each is compared with the first, lr=1e-4." in told) == ("- first" in told) == (not default)


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
    screen.show_evaluation(evaluation() | {"judge": judge})
    assert "57.000 [56.950, 57.050]" in capsys.readouterr().out
