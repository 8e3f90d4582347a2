"""What a training would take is told as soon as anything of it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from heedful import doctor
from heedful.cli import main


@pytest.mark.parametrize("arguments", [[], ["--set", "train.method=lora"], ["--recipe", "mine.yaml"]])
def test_settings_alone_name_a_training(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("train: {epochs: 1}")
    monkeypatch.setattr(doctor, "offers", lambda: {"cores": 2})
    monkeypatch.setattr(doctor, "expects", lambda *named: {"minutes": 1.5})
    with pytest.raises(SystemExit):
        main(["doctor", *arguments])
    assert ("minutes" in capsys.readouterr().out) == bool(arguments)
