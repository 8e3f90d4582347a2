"""A validation shows how far it is, and hears a signal where nothing would be lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from tests.train.sessions import Screen, log, session

from heedful.errors import Interrupted


class SignalDuring(Screen):
    """Sends the process a signal in the middle of the validation with this number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def validate(self, done: int, total: int) -> None:
        super().validate(done, total)
        ended = [at for at, _ in self.validated].count(total)
        if ended == self.number and self.validated[-2:-1] in ([], [(total, total)]):  # a second would end the process
            os.kill(os.getpid(), signal.SIGTERM)


FORWARDS = ("encode.batch_tokens=64",)  # so small that a validation takes several


def test_every_row_is_counted(tmp_path: Path) -> None:
    screen = Screen()
    session(tmp_path / "run", *FORWARDS, screen=screen, validation=9).fit()
    first = screen.validated[: [done for done, _ in screen.validated].index(9) + 1]
    assert len(first) > 2 and [done for done, _ in first] == sorted({done for done, _ in first})
    assert {total for _, total in screen.validated} == {9}


def test_a_signal_before_the_first_update_ends_the_validation(tmp_path: Path) -> None:
    screen = SignalDuring(0)
    with pytest.raises(Interrupted) as told:
        session(tmp_path / "run", *FORWARDS, screen=screen, validation=9).fit()
    assert told.value.exit_code == 128 + signal.SIGTERM
    assert screen.validated[-1][0] < 9 and not (tmp_path / "run/metrics.jsonl").exists()


@pytest.mark.parametrize(("some", "rows", "ends"), [((), 9, 1), (("train.evaluate_batches=2",), 8, 2)])
def test_a_signal_in_a_later_validation_waits_for_its_end_and_says_so(
    some: tuple[str, ...], rows: int, ends: int, tmp_path: Path
) -> None:
    screen = SignalDuring(ends)
    stopped = session(tmp_path / "stopped", *FORWARDS, *some, screen=screen, validation=9)
    assert stopped.fit() == signal.SIGTERM
    assert stopped.progress.step == 3 and screen.validated[-1] == (rows, rows)
    assert sum("after this validation" in text for text in screen.said) == 1
    assert [event["step"] for event in log(stopped) if event["event"] == "validation"] == [0, 3]
