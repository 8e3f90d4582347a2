"""Long work is told of where nobody sees a bar."""

from __future__ import annotations

import pytest

from heedful.records import StepMetrics
from heedful.report import bars


def test_a_log_tells_now_and_then_how_far_the_work_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 3))  # a look at the clock takes three seconds
    monkeypatch.setattr(bars.time, "monotonic", lambda: next(clock))
    said: list[str] = []
    monkeypatch.setattr(bars, "say", said.append)
    monkeypatch.setattr(bars, "err", bars.err.__class__(quiet=True, force_terminal=False))
    with bars.counting_bar("Checking rows", 20) as done:
        for number in range(20):
            done(number)
    assert said[0] == "Checking rows (20)"
    assert 1 < len(said) < 6 and all(text.endswith(" of 20)") for text in said[1:])


def test_a_log_tells_now_and_then_how_far_a_validation_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 3))
    monkeypatch.setattr(bars.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(bars, "err", bars.err.__class__(stderr=True, force_terminal=False))
    with bars.training_bar(5, 0, lambda: None) as bar:
        for done in range(0, 2000, 100):
            bar.validate(done, 2000)
    told = capsys.readouterr().err.split("\n")
    assert 1 < len(told) < 8 and all(line.endswith("of 2,000 rows") for line in told[:-1])


def test_a_bar_shows_how_far_a_validation_is_and_then_the_last_step_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bars, "err", bars.err.__class__(stderr=True, force_terminal=True, width=90, color_system=None))
    with bars.training_bar(5, 0, lambda: None) as bar:
        bar.step(StepMetrics(1, 0.2, 2.5, 10, 20, 1e-4, 1.0, 0.1))
        bar.validate(128, 2000)
        assert bar.progress.tasks[0].description == "validating 128 of 2,000 rows"
        bar.validate(2000, 2000)
    assert bar.progress.tasks[0].description == bar.text and "loss 2.500" in bar.text


def test_a_bar_shows_a_name_with_brackets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bars, "err", bars.err.__class__(stderr=True, force_terminal=True, width=90, color_system=None))
    with bars.counting_bar("Reading x[/y]z[v2].json", 20) as done:
        done(20)
    assert "Reading x[/y]z[v2].json 20/20" in capsys.readouterr().err
