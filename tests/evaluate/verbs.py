"""What tests of the verbs share: settings of a short training, and the command line in this process."""

from __future__ import annotations

import pytest

from heedful.cli import main

QUICK = {
    "train.epochs": 1, "encode.template": "chatml", "generate.max_tokens": 6, "train.precision": "fp32",
    "generate.precision": "fp32",
}  # fmt: skip


def said(arguments: list[object], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run the command line in this process; give its exit code and what it said on stderr."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    told = capsys.readouterr().err
    assert "Traceback" not in told
    return int(end.value.code or 0), told
