"""A run tells what it came from: versions, machine, where its names were typed."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import pytest

import heedful
from heedful.errors import RunError
from heedful.provenance import provenance
from heedful.run import Run
from heedful.system.atomic import write_json


def test_a_run_that_begins_anew_elsewhere_still_tells_where_its_names_were_typed(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert provenance(run, 0, {"asked": {}})["folder"] == os.getcwd()
    write_json(run.provenance_file, {"folder": "/a", "asked": {"train.max_steps": None}, "updates": 3})
    assert run.updates_in_model() is None  # the model is gone
    again = provenance(run, 0, {})
    assert (again["folder"], again["asked"]) == ("/a", {"train.max_steps": None}) and "updates" not in again


def test_a_run_keeps_its_id_whatever_becomes_of_it(tmp_path: Path) -> None:
    run, other = Run(tmp_path / "run"), Run(tmp_path / "other")
    for begun in (run, other):
        begun.path.mkdir()
        write_json(begun.provenance_file, provenance(begun, 0, {}))
    first = run.identity
    assert first != other.identity
    for step in (0, 5):  # begun anew without checkpoints; resumed
        write_json(run.provenance_file, provenance(run, step, {}))
        assert run.identity == first
    assert Run(run.path.rename(tmp_path / "moved")).identity == first


@pytest.mark.parametrize("content", ["[1, 2]", "null", "3"])
def test_provenance_of_another_shape_is_refused_by_name(tmp_path: Path, content: str) -> None:
    run = Run(tmp_path)
    run.provenance_file.write_text(content)
    with pytest.raises(RunError, match=r"provenance\.json does not hold what a run came from"):
        run.provenance()
    assert run.identity


@pytest.mark.parametrize(("name", "value"), [("folder", 5), ("asked", []), ("fingerprint", "x"), ("model", None)])
def test_what_is_told_in_another_form_is_refused_by_name(tmp_path: Path, name: str, value: object) -> None:
    run = Run(tmp_path)
    write_json(run.provenance_file, {name: value})
    with pytest.raises(RunError, match=rf"provenance\.json tells the run's {name} in another form\. Restore it"):
        run.provenance()


def test_a_resume_tells_again_what_was_lost(tmp_path: Path) -> None:
    write_json(Run(tmp_path).provenance_file, {"data": "a1"})
    told = provenance(Run(tmp_path), 5, {"data": "b2", "model": "gpt2"})
    assert (told["data"], told["model"], told["resumed"][0]["step"]) == ("a1", "gpt2", 5)


def test_what_a_provenance_lacks_is_named(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.provenance() == {}
    with pytest.raises(RunError, match=r"Cannot read .*provenance\.json"):
        run.provenance("model")
    run.provenance_file.write_text('{"data": "a1"}')
    assert run.provenance("data") == {"data": "a1"}
    with pytest.raises(RunError, match=r"provenance\.json does not tell the run's model and fingerprint\."):
        run.provenance("data", "model", "fingerprint")


def test_sources_that_are_not_installed_have_a_version_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version

    def installed(name: str) -> str:
        if name == "heedful":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", installed)
    assert provenance(Run(tmp_path), 0, {})["packages"]["heedful"] == heedful.__version__
