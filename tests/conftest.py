"""Every test runs offline and on one thread; the fixtures make tiny models and small files of rows."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
# Each process that a test starts would compile our sources again, which takes a second.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from heedful.cli import GC_THRESHOLDS
from heedful.system.store import cache_home
from tests import processes
from tests.models import byte_tokenizer, tiny_model

sys.dont_write_bytecode = False
torch.set_num_threads(1)
gc.set_threshold(*GC_THRESHOLDS)


def pytest_collection_finish() -> None:
    """What was imported stays: no collection need look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what tests read and encode out of the user's cache, but use the models and the llama.cpp that are there."""
    home = tmp_path_factory.mktemp("cache")
    (cache_home() / "models").mkdir(parents=True, exist_ok=True)  # on a new machine: tests write the model there
    (home / "models").symlink_to(cache_home() / "models")
    (home / "llama.cpp").symlink_to(cache_home() / "llama.cpp")
    os.environ["HEEDFUL_HOME"] = str(home)


WORDS = ["red", "green", "blue", "one", "two", "three", "sun", "moon", "star", "cat", "dog", "bird"]


def make_rows(count: int) -> list[dict[str, str]]:
    """Make rows with shared beginnings, of different lengths, a third with an input."""
    return [
        {
            "instruction": f"Repeat the word {WORDS[i % 12]} {i % 5 + 1} times." if i % 3 else "Give the last word.",
            "input": "" if i % 3 else f"{WORDS[(i // 3) % 12]} and {WORDS[(i // 36 + 1) % 12]} {i}",
            "output": " ".join([WORDS[i % 12]] * (i % 5 + 1)) + ".",
        }
        for i in range(count)
    ]


@pytest.fixture(scope="session")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JSON file of 80 rows."""
    path = tmp_path_factory.mktemp("data") / "rows.json"
    path.write_text(json.dumps(make_rows(80), indent=1), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama with a byte-level tokenizer, as save_pretrained writes it."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tiny_model("llama", max_position_embeddings=1024, initializer_range=0.05).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def heedful(tmp_path: Path) -> Callable[..., processes.Process]:
    """Run the real command line to its end, in a process of its own, in an empty folder."""

    def run(*arguments: object, **options: Any) -> processes.Process:
        process = processes.heedful(tmp_path, *arguments, **options)
        process.wait()
        return process

    return run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEEDFUL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"
