"""What a training would take is told as soon as anything of it is named."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from heedful.cli import main
from heedful.commands import doctor
from heedful.errors import RunError
from heedful.report import screen
from heedful.report.console import Screen
from heedful.system import machine
from heedful.train.ranks import Ranks

OFFERED = {
    "processor": "A processor", "cores": 2, "memory_gib": 23.5, "free_memory_gib": 15.8,
    "memory_bandwidth_gb_per_s": 20.1, "fp32_gflops": 336, "fp32_gflops_in_a_step": 300, "bf16_gflops": 174,
    "bf16_gflops_in_a_step": 160, "instructions": "AVX512", "gpu": None, "native_bf16": True, "compiled_kernels": True,
    "precision": "fp32", "heedful": "0.1.0", "torch": "2.13.0", "transformers": "5.0", "python": "3.11",
    "models_on_this_machine": [],
}  # fmt: skip
TAKES = {
    "minutes": 1.5, "steps": 30, "seconds_per_step": 3.0, "tokens_per_s": 1900, "tokens_per_forward": 4096,
    "answers": 119,
}  # fmt: skip


@pytest.mark.parametrize("arguments", [[], ["--set", "train.method=lora"], ["--recipe", "mine.yaml"]])
def test_settings_alone_name_a_training(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("train: {epochs: 1}")
    monkeypatch.setattr(doctor, "offers", lambda: OFFERED)
    monkeypatch.setattr(doctor, "expects", lambda told, *named: told.update(TAKES))
    with pytest.raises(SystemExit):
        main(["doctor", *arguments])
    told = " ".join(capsys.readouterr().out.split())
    assert "processor A processor, 2 cores, AVX512, with instructions for bf16 memory 23.5 GiB, of which 15.8" in told
    for line in (
        "takes 1.5 minutes, validation and saving included: 30 updates of 3.0 s, 1,900 tokens/s",
        "both models answer 119 test rows, which these minutes do not include",
    ):
        assert (line in told) == bool(arguments)


def test_what_does_not_fit_is_told_with_what_it_would_need(
    rows_file: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "offers", lambda: OFFERED)
    monkeypatch.setattr(machine, "free_memory", lambda: 2**20)
    with pytest.raises(SystemExit) as end:
        main(["doctor", str(rows_file), "--model", str(tiny_folder)])
    told = capsys.readouterr()
    assert end.value.code == 1
    assert re.search(r"training needs\s+full [\d.]+ GiB in fp32, [\d.]+ in bf16; lora", told.out)
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
    monkeypatch.setattr(doctor, "offers", lambda: OFFERED)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    told = []
    for verb in (["doctor"], ["train", "--out", str(tmp_path / "run")]):
        sets = [word for setting in settings for word in ("--set", setting)]
        with pytest.raises(SystemExit):
            main([*verb, str(rows_file), "--model", str(tiny_folder), *sets])
        told.append(capsys.readouterr().err.splitlines()[-1])
    assert told[0] == told[1]
    assert why in told[0]


def test_memory_is_that_of_the_device_that_trains(
    rows_file: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's own memory, not its machine's."""
    monkeypatch.setattr(Ranks, "free_memory", lambda self: 2**20)
    with pytest.raises(RunError, match=r"0\.0 GiB are free"):
        doctor.expects({}, str(rows_file), str(tiny_folder), None, {})
