"""A run is the same from any folder, by a link and from home, and finds the model that it began with."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import make_rows

import heedful
from heedful import pipeline
from heedful.begin import configure, resolve_run
from heedful.engines import base_of
from heedful.errors import DataError, HeedfulError, RunError, UsageError
from heedful.evaluate.held_back import evaluation_rows
from heedful.run import Run
from heedful.settings import load_config
from heedful.system.atomic import read_json, write_json


def test_a_run_is_whole_wherever_it_is_used_from(
    copy: Run, rows: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Names typed in one folder mean the same from another; what is not the run's base does not pass for it."""
    named = {"data.path": rows.name, "model.name": os.path.relpath(tiny_folder, rows.parent)}
    copy.write_config(load_config(copy.config_file, named))
    began = read_json(copy.provenance_file) | {"model": named["model.name"]}
    monkeypatch.chdir(tmp_path)
    (tmp_path / rows.name).write_text(json.dumps(make_rows(9)))
    write_json(copy.provenance_file, began | {"folder": str(rows.parent)})
    scores = pipeline.evaluate(copy)
    assert scores["models"] == read_json(copy.evaluation_file)["models"]
    assert [*pipeline.load_served(copy.path, True)] == ["copy", "copy-base"]
    assert load_config(copy.config_file).data.path == rows.name
    fingerprint = began["fingerprint"] | {"model": "another"}
    write_json(copy.provenance_file, began | {"folder": str(rows.parent), "fingerprint": fingerprint})
    with pytest.raises(HeedfulError, match="its weights differ"):
        pipeline.evaluate(copy)
    assert [*pipeline.load_served(copy.path, True)] == ["copy"]
    assert "Its base model is not served beside it" in capsys.readouterr().err
    write_json(copy.provenance_file, began | {"folder": str(tmp_path)})
    with pytest.raises(HeedfulError, match=f"{rows.name} is not what"):
        pipeline.evaluate(copy)


def test_data_that_moved_is_found_by_its_new_name_if_it_is_the_same(
    copy: Run, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a refusal advises works: for data that is gone, and for a file that was edited where the run began."""
    began, here = tmp_path / "began", tmp_path / "here"
    for folder in (began, here):
        folder.mkdir()
    shutil.copy(rows, here / "words.json")
    copy.write_config(load_config(copy.config_file, {"data.path": "word.json"}))
    write_json(copy.provenance_file, copy.provenance() | {"folder": str(began)})
    monkeypatch.chdir(here)
    advice = r".*give it with --set data\.path=FILE"
    longer = {"train.epochs": 2, "evaluate.after_training": False}
    with pytest.raises(DataError, match=r"no file word\.json.*" + advice):
        pipeline.evaluate(copy)
    with pytest.raises(DataError, match=r"no file word\.json.*" + advice):
        pipeline.train(out=copy.path, settings=longer, resume=True)
    edited = began / "word.json"
    edited.write_text(json.dumps(make_rows(9)))
    with pytest.raises(DataError, match=f"^{edited} is not what" + advice):
        pipeline.evaluate(copy)
    with pytest.raises(RunError, match=f"its examples, read from {edited}, changed since" + advice):
        pipeline.train(out=copy.path, settings=longer, resume=True)
    for asked in ({"data.path": str(edited)}, {"data.path": "words.json", "data.test_share": 0.5}):
        with pytest.raises(UsageError, match="only if its bytes are the same"):
            pipeline.evaluate(copy, settings=asked)

    told = read_json(copy.evaluation_file)
    scores = pipeline.evaluate(copy, settings={"data.path": "words.json"})
    assert scores["models"] == told["models"] and scores["of"]["data"] == "words.json"
    assert copy.config().data.path == "word.json"
    shutil.copy("words.json", "word.json")  # the name that was typed, in this folder
    assert len(evaluation_rows(copy, None, {"data.path": "word.json"})) == told["rows"]
    monkeypatch.setenv("HOME", str(here))
    for name in ("~/words.json", "words.json"):
        _, tree = resolve_run(configure(None, (), name, None), copy.path, True)
        assert tree["data"]["path"] == str(here / "words.json")
    pipeline.train(out=copy.path, settings={**longer, "data.path": "words.json"}, resume=True)
    assert copy.updates_in_model() == 14
    monkeypatch.chdir(tmp_path)  # from now on that is where its data is
    pipeline.evaluate(copy)


def test_a_run_is_resumed_from_another_folder_and_keeps_the_names_that_were_typed(
    copy: Run, rows: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, named = tmp_path / "home", {"data.path": rows.name, "model.name": f"models/{tiny_folder.name}"}
    home.mkdir()
    shutil.copy(rows, home)
    (home / "models").symlink_to(tiny_folder.parent)
    copy.write_config(load_config(copy.config_file, named))
    began = read_json(copy.provenance_file) | {"model": named["model.name"], "folder": str(home)}
    write_json(copy.provenance_file, began)
    monkeypatch.chdir(tmp_path)
    (tmp_path / rows.name).write_text(json.dumps(make_rows(9)))
    longer = {"train.epochs": 2, "evaluate.after_training": False}
    pipeline.train(out=copy.path, settings=longer, resume=True)
    assert copy.updates_in_model() == 14
    assert load_config(copy.config_file) == load_config(copy.config_file, {**named, **longer})
    resolve_run(configure(None, (), home / rows.name, None), copy.path, True)  # another name for the same
    with pytest.raises(UsageError, match=f"data.path was {home / rows.name}, now {rows.name}"):
        resolve_run(configure(None, (), rows.name, None), copy.path, True)
    (home / "sub").mkdir()
    monkeypatch.chdir(home / "sub")
    for name in (rows.name, f"../{rows.name}"):  # as it was typed; as it is called from here
        resolve_run(configure(None, (), name, f"../{named['model.name']}"), copy.path, True)
    (home / "builtin").mkdir()
    assert copy.from_here("builtin:zh") == "builtin:zh" and copy.from_here("builtin") == "builtin"
    monkeypatch.setenv("HOME", str(home))
    resolve_run(configure(None, (), f"~/{rows.name}", None), copy.path, True)
    for asked in ("builtin", home / "builtin"):
        with pytest.raises(UsageError, match=r"data\.path was .*, now "):
            resolve_run(configure(None, (), asked, None), copy.path, True)
    monkeypatch.chdir(home)
    resolve_run(configure(None, (), f"./{rows.name}", named["model.name"]), copy.path, True)


def test_a_model_behind_a_link_comes_back_after_a_kill(copy: Run, tmp_path: Path) -> None:
    """Killed when the old folder was out of its place, and the new one not yet in it."""
    far, weights = tmp_path / "disk/far", (copy.model / "model.safetensors").read_bytes()
    far.parent.mkdir()
    copy.model.rename(far.with_name(".far.tmp-old-99999999"))
    far.with_name(".far.tmp-99999999").mkdir()
    copy.model.symlink_to(far)
    pipeline.train(out=copy.path, resume=True)
    assert [path.name for path in far.parent.iterdir()] == ["far"] and copy.model.is_symlink()
    assert (copy.model / "model.safetensors").read_bytes() == weights


def test_a_base_that_is_gone_is_missed_before_anything_is_answered(
    copy: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "heedful.evaluate.base_and_tuned.open_tuned", lambda *_: pytest.fail("the tuned model was opened")
    )
    copy.write_config(copy.config({"model.name": str(tmp_path / "gone")}))
    write_json(copy.provenance_file, read_json(copy.provenance_file) | {"model": str(tmp_path / "gone")})
    with pytest.raises(UsageError, match=f"There is no folder {tmp_path}/gone"):
        pipeline.evaluate(copy)


def test_a_base_in_a_folder_closed_to_us_is_found_by_its_name(
    copy: Run, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = os.stat

    def closed(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if str(path).startswith("/closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))  # root would be let in
        return look(path, *arguments, **options)

    write_json(copy.provenance_file, read_json(copy.provenance_file) | {"model": "/closed/base"})
    monkeypatch.setattr(os, "stat", closed)
    assert base_of(copy).origin == str(tiny_folder)


def test_a_run_is_the_same_by_a_link_and_from_home(copy: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "latest").symlink_to(copy.path)
    monkeypatch.chdir(tmp_path)
    assert [*pipeline.load_served("latest", True)] == ["latest", "latest-base"]
    monkeypatch.chdir(copy.path)
    assert [*pipeline.load_served(".", True)] == ["copy", "copy-base"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert heedful.load("~/copy").sampling.max_tokens == 6
    assert pipeline.open_run("~/copy") == copy
