"""The real default: SmolLM2-135M out of its wheel, prompted by its own template, on the rows that ship."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import heedful
from heedful import kernels
from heedful.generate.probe import difference, tolerance
from heedful.model.catalogue import CATALOGUE, wheel_file
from heedful.records import Message, Sampling

WHEEL = CATALOGUE["smollm2-135m"].wheel

pytestmark = pytest.mark.skipif(
    WHEEL is None or wheel_file(WHEEL) is None, reason="the model's wheel is not installed; `make test` installs it"
)


def test_the_default_model_knows_a_capital_and_stops() -> None:
    engine = heedful.load("smollm2-135m")
    question = [Message("user", "What is the capital of France?")]
    (answer,) = engine.generate([question], Sampling(max_tokens=40))
    assert "Paris" in answer.text
    assert answer.finish_reason == "stop"
    pieces = list(engine.stream(question, Sampling(max_tokens=40)))
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == answer.text


@pytest.mark.skipif(kernels.compiled() is None, reason="no compiler here")
def test_the_default_model_gets_a_decoder_on_every_processor() -> None:
    """A probe that is too strict for 30 layers' rounding would cost half the speed, and nobody would be told."""
    engine = heedful.load("smollm2-135m", settings={"generate.precision": "fp32"})
    assert engine.decoder is not None
    assert difference(engine.decoder, engine.model) < tolerance(engine.decoder, engine.model) / 2  # no luck


def test_the_shipped_rows_fit_the_default_model() -> None:
    encoding = heedful.check("builtin").receipt["encoding"]
    assert encoding["template"] == "own"
    assert encoding["stop_token"] == "<|im_end|>"
    assert encoding["stop_supervised"] == encoding["rows_with_target"] == encoding["rows"]
    assert encoding["cut_in_pieces"] == 0


def test_the_chinese_rows_fit_it_too() -> None:
    receipt = heedful.check("builtin:zh").receipt
    assert receipt["data"]["kept"] == receipt["data"]["read"] >= 150
    assert receipt["encoding"]["stop_supervised"] == receipt["encoding"]["rows"]


def test_fetching_it_says_one_line_and_gives_a_folder(tmp_path: Path) -> None:
    """A library's own progress bar does not reach the screen."""
    done = subprocess.run(
        [sys.executable, "-m", "heedful", "models", "pull", "smollm2-135m"],
        env={**os.environ, "HEEDFUL_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (Path(done.stdout.strip()) / "model.safetensors").is_file()
    assert done.stderr.strip().startswith("Converting SmolLM2-135M")
    assert len(done.stderr.strip().splitlines()) == 1
