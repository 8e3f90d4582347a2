"""A run of a tiny model, and a judge. Property tests here have no deadline: the first example pays for imports."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from tests.conftest import make_rows
from tests.evaluate.fake_judge import Judge, serving
from tests.evaluate.verbs import QUICK

from heedful import pipeline
from heedful.run import Run

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 rows, every second with constraints on its answer."""
    path = tmp_path_factory.mktemp("rows") / "rows.json"
    made: list[dict[str, Any]] = [
        {**row, "checks": {"max_words": 3}} if i % 2 else row for i, row in enumerate(make_rows(60))
    ]
    path.write_text(json.dumps(made), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def run(rows: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return pipeline.train(str(rows), model=str(tiny_folder), settings=QUICK, out=tmp_path_factory.mktemp("runs") / "a")


@pytest.fixture
def copy(run: Run, tmp_path: Path) -> Run:
    """A run that a test may spoil."""
    shutil.copytree(run.path, tmp_path / "copy")
    return Run(tmp_path / "copy")


@pytest.fixture
def judge() -> Iterator[Judge]:
    with serving() as server:
        yield server
