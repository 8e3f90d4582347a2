"""A GGUF file is converted once, and never kept half or changed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from tests.models import tiny_model, trained_tokenizer
from transformers import AutoModelForCausalLM

from heedful.commands.models import pull
from heedful.config import EncodeConfig
from heedful.encode.tokenise import build_encoder
from heedful.errors import RunError, UsageError
from heedful.export.gguf_file import write_gguf
from heedful.model import from_gguf
from heedful.model.pretrained import fingerprint, load
from heedful.system.atomic import sha256


@pytest.fixture
def gguf_file(tmp_path: Path) -> Path:
    """A tiny model as a GGUF file."""
    tokenizer = trained_tokenizer("smollm")
    model = tiny_model("llama", vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=2)
    model.save_pretrained(tmp_path / "written")
    encoder = build_encoder(EncodeConfig(template="chatml"), tokenizer, 128)
    write_gguf(tmp_path / "tiny.gguf", tmp_path / "written", model.config, encoder, "f32", "tiny")
    return tmp_path / "tiny.gguf"


def test_a_gguf_file_is_converted_once(
    gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hashed once a process; a conversion that was killed is done again, and leaves nothing beside it. A file of the
    same name in the folder that we are in is none of its business."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / gguf_file.name).write_bytes(b"another")
    monkeypatch.chdir(tmp_path / "here")
    hashed: list[Path] = []
    monkeypatch.setattr(from_gguf, "sha256", lambda path: hashed.append(path) or sha256(path))
    monkeypatch.setenv("HEEDFUL_HOME", str(tmp_path / "home"))
    origin = Path(load(str(gguf_file)).origin)
    found = load(str(gguf_file))
    assert hashed == [gguf_file]  # to name it
    assert capsys.readouterr().err.count("Converting") == 1
    written = AutoModelForCausalLM.from_pretrained(tmp_path / "written")
    assert fingerprint(written) == fingerprint(found.model)
    (origin / "MANIFEST.json").unlink()
    assert load(str(gguf_file)).origin == str(origin)
    assert sorted(path.name for path in origin.parent.iterdir()) == [origin.name, f"{origin.name}.lock"]


@pytest.mark.parametrize("closed", ["", "models"])
def test_a_model_that_could_not_stay_is_not_said_to(
    gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    home, mkdir = tmp_path / "home", os.mkdir

    def closed_mkdir(path: Path, *arguments: Any) -> None:
        if (home / closed) in (Path(path), *Path(path).parents):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))  # root would be let in
        mkdir(path, *arguments)

    monkeypatch.setenv("HEEDFUL_HOME", str(home))
    monkeypatch.setattr(os, "mkdir", closed_mkdir)
    assert load(str(gguf_file)).model
    with pytest.raises(RunError, match=r"Cannot keep .*tiny\.gguf in .*home: .* Set HEEDFUL_HOME"):
        pull(str(gguf_file))


def test_a_gguf_file_that_changes_while_it_is_read_is_not_kept(
    gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its weights would be found under the name of others."""
    file = tmp_path / "model.gguf"
    file.write_bytes(gguf_file.read_bytes())
    monkeypatch.setenv("HEEDFUL_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(from_gguf, "sha256", lambda path: (sha256(path), os.utime(path, (1, 1)))[0])
    with pytest.raises(UsageError, match=rf"{file} changed while it was read\. Try again when"):
        load(str(file))
    assert load(str(file)).model.num_parameters() > 0


def test_a_gguf_file_is_converted_where_no_cache_can_be_written(
    gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEEDFUL_HOME", str(gguf_file / "home"))
    assert load(str(gguf_file)).model.num_parameters() > 0
