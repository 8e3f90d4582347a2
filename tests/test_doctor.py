"""What a training would take is told as soon as anything of it is named."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import pytest

from heedful import doctor, machine
from heedful.cli import main
from heedful.errors import RunError
from heedful.report import screen
from heedful.report.console import Screen
from heedful.train.ranks import Ranks


@pytest.mark.parametrize("arguments", [[], ["--set", "train.method=lora"], ["--recipe", "mine.yaml"]])
def test_settings_alone_name_a_training(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("train: {epochs: 1}")
    monkeypatch.setattr(doctor, "offers", lambda: {"cores": 2})
    monkeypatch.setattr(doctor, "expects", lambda told, *named: told.update(minutes=1.5))
    with pytest.raises(SystemExit):
        main(["doctor", *arguments])
    assert ("minutes" in capsys.readouterr().out) == bool(arguments)


def test_what_does_not_fit_is_told_with_what_it_would_need(
    rows_file: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "offers", lambda: {"cores": 2})
    monkeypatch.setattr(machine, "free_memory", lambda: 2**20)
    with pytest.raises(SystemExit) as end:
        main(["doctor", str(rows_file), "--model", str(tiny_folder)])
    told = capsys.readouterr()
    assert end.value.code == 1
    assert "full_fp32" in told.out
    assert "GiB" in told.err
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        monkeypatch.setattr(screen, "out", Screen())  # which keeps what it could not write
        with pytest.raises(RunError, match="GiB"):  # also where the table cannot be written
            doctor.examine(str(rows_file), str(tiny_folder), None, {}, as_json=False)
        with suppress(OSError):
            full.close()


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (["train.sharding=full"], "single process"),
        (["train.optimizer=adamw_8bit"], "NVIDIA GPU"),
        (["train.quantize=nf4", "train.method=lora"], "NVIDIA GPU"),
        (["train.batch_size=200", "train.drop_last=true"], "do not fill one update"),
    ],
)
def test_what_train_refuses_is_refused_in_its_words(
    settings: list[str],
    why: str,
    rows_file: Path,
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(doctor, "offers", lambda: {"cores": 2})
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    told = []
    for verb in (["doctor"], ["train", "--out", str(tmp_path / "run")]):
        sets = [word for setting in settings for word in ("--set", setting)]
        with pytest.raises(SystemExit):
            main([*verb, str(rows_file), "--model", str(tiny_folder), *sets])
        told.append(capsys.readouterr().err.splitlines()[-2:])
    assert told[0] == told[1]
    assert why in " ".join(told[0])


def test_memory_is_that_of_the_device_that_trains(
    rows_file: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's own memory, not its machine's."""
    monkeypatch.setattr(Ranks, "free_memory", lambda self: 2**20)
    with pytest.raises(RunError, match=r"0\.0 GiB are free"):
        doctor.expects({}, str(rows_file), str(tiny_folder), None, {})
