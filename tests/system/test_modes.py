"""Weights are for whomever the umask lets read the files beside them: another user, a service, a shared cache. Where
nothing may be written, no space need be freed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.export.runs import make_run
from tests.models import byte_tokenizer, tiny_model, trained_tokenizer
from tests.train.sessions import session

from heedful import pipeline
from heedful.config import EncodeConfig
from heedful.encode.tokenise import build_encoder
from heedful.errors import ExportError, ModelError
from heedful.export.gguf_file import write_gguf
from heedful.model import saving
from heedful.model.from_gguf import convert_gguf
from heedful.train.result import write_model


@pytest.fixture(params=[0o022, 0o002, 0o077], ids=oct)
def mode(request: pytest.FixtureRequest) -> Iterator[int]:
    """Set a umask; give the mode that files get by it."""
    before = os.umask(request.param)
    yield 0o666 & ~request.param
    os.umask(before)


def modes_of(*folders: Path) -> set[int]:
    """Give the modes of the weights there and of what is beside them."""
    assert all(any(folder.glob("*.safetensors")) or any(folder.glob("*.gguf")) for folder in folders)
    return {stat.S_IMODE(file.stat().st_mode) for folder in folders for file in folder.iterdir()}


def test_a_run_is_readable_as_a_whole(tmp_path: Path, mode: int) -> None:
    trained = session(tmp_path, "train.max_steps=1", "train.method=lora")
    trained.fit()
    write_model(trained)
    (saved,) = trained.run.checkpoints.glob("step-*")
    assert modes_of(trained.run.model, trained.run.adapter, saved) == {mode}


@pytest.mark.parametrize("to", ["hf", "ollama"])
def test_an_export_is_readable_as_a_whole(tmp_path: Path, mode: int, to: str) -> None:
    run = make_run(tmp_path / "run", "llama", trained_tokenizer("smollm"))
    assert modes_of(pipeline.export(run, to).path) == {mode}


def test_a_converted_gguf_file_is_readable_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    """In a cache that several users share."""
    monkeypatch.setenv("HEEDFUL_HOME", str(tmp_path / "home"))
    tokenizer = trained_tokenizer("smollm")
    tiny = tiny_model("llama", vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=2)
    tiny.save_pretrained(tmp_path / "written")
    encoder = build_encoder(EncodeConfig(template="chatml"), tokenizer, 128)
    write_gguf(tmp_path / "tiny.gguf", tmp_path / "written", tiny.config, encoder, "f32", "tiny")
    assert modes_of(convert_gguf(tmp_path / "tiny.gguf")) == {mode}


@pytest.mark.parametrize(
    ("number", "fix"), [(errno.EROFS, "Get write permission there"), (errno.ENOSPC, "Free some space")]
)
def test_what_helps_where_weights_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, fix: str
) -> None:
    def closed(path: Any, *arguments: Any) -> None:
        if Path(path).parent == tmp_path / "closed":
            raise OSError(number, os.strerror(number), str(path))
        mkdir(path, *arguments)

    run, mkdir = make_run(tmp_path / "run", "llama", byte_tokenizer()), os.mkdir
    (tmp_path / "closed").mkdir()
    monkeypatch.setattr(os, "mkdir", closed)
    place = tmp_path / "closed" / "weights"
    with pytest.raises(ExportError) as refused:
        pipeline.export(run, out=place)
    assert str(refused.value) == f"Cannot write {place}: {os.strerror(number)}. {fix}, or choose another --out."
    with pytest.raises(ModelError) as failed:
        saving.save(tiny_model("llama"), byte_tokenizer(), place)
    assert str(failed.value) == f"Cannot write the model to {place}: {os.strerror(number)}. {fix}."
