"""Long work is told of where nobody sees a bar."""

from __future__ import annotations

import pytest

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
