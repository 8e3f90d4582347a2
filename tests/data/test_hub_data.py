"""A data set's id on the hub gives its splits, or one sentence."""

import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.data.files import ROWS, refusal

from heedful.data import sources
from heedful.errors import DataError, install_extra


def hub(monkeypatch: pytest.MonkeyPatch, splits: dict[str, list[dict[str, str]]]) -> None:
    fake = types.ModuleType("datasets")
    fake.load_dataset = lambda name: splits  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", fake)


def test_a_typing_error_in_a_path_is_no_id_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, {"train": ROWS})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows/news").mkdir(parents=True)
    with pytest.raises(DataError, match=r"There is no file or folder rows/new. Did you mean 'news'"):
        sources.read("rows/new")
    assert sources.read("rows/alpaca")[0].name == "rows/alpaca[train]"  # like nothing there: the hub's

    def unreadable(folder: Path) -> Iterator[Path]:
        raise PermissionError(folder)

    monkeypatch.setattr(Path, "iterdir", unreadable)
    assert sources.read("rows/new")[0].name == "rows/new[train]"


def test_a_hub_id_gives_its_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, {"train": ROWS, "test": ROWS[:1], "extra": []})
    found = sources.read("org/name")
    assert [(source.part, len(source.rows)) for source in found] == [("train", 4), ("test", 1)]
    assert str(found[1].rows[0].place) == "org/name[test] (row 1)"


def test_two_splits_of_a_hub_id_that_are_one_part_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, {"train": ROWS, "valid": ROWS[:1], "validation": ROWS[1:]})
    told = "The data set org/name has valid and validation, which are both validation. Save the rows you mean as files."
    assert refusal("org/name") == told


def test_a_hub_id_that_cannot_be_read_is_a_data_error(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, {"train_sft": ROWS})
    assert "has no part train. It has train_sft" in refusal("org/name")
    sys.modules["datasets"].load_dataset = None  # type: ignore[attr-defined]
    assert refusal("org/name").startswith("Cannot read the data set org/name from the hub: ")
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert refusal("org/name").endswith(install_extra("data"))
