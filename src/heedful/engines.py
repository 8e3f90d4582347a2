"""A run or a model -> an engine that answers, prompted as in training."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from transformers import PreTrainedModel

from heedful.config import Config, EncodeConfig
from heedful.encode.prompt_receipt import open_encoder
from heedful.encode.tokenise import Encoder, build_encoder
from heedful.errors import ModelError
from heedful.generate.engine import Engine
from heedful.model import pretrained
from heedful.model.catalogue import locate
from heedful.model.pretrained import Loaded
from heedful.model.vocabulary import fit_vocabulary
from heedful.run import Run
from heedful.system.heap import keep_freed_pages
from heedful.train.gpu import free_memory
from heedful.train.precision import DTYPES, resolve


def open_tuned(run_or_model: Path | str, config: Config) -> tuple[Engine, Encoder]:
    """Load a run's model, or any other, with the encoder that prompts it as in training."""
    loaded = pretrained.load(str(run_or_model))
    encoder = open_encoder(Path(loaded.origin), loaded.tokenizer, pretrained.max_positions(loaded.model.config))
    return engine_of(loaded.model, encoder, name_of(run_or_model), config), encoder


def open_base(run: Run, config: Config) -> Engine:
    """Load the model that a run began with; it is prompted by its own chat template, or else by the run's."""
    loaded = base_of(run)
    positions = pretrained.max_positions(loaded.model.config)
    encoder = build_encoder(EncodeConfig(), loaded.tokenizer, positions)
    if encoder.template.name != "own":
        encoder = open_encoder(run.model, pretrained.load_tokenizer(str(run.path))[0], positions)
    return engine_of(loaded.model, encoder, f"{name_of(run.path)}-base", config)


def name_of(run_or_model: Path | str) -> str:
    """Return the name under which a run or a model answers: the last part of its path, as it was typed."""
    return os.path.basename(os.path.abspath(run_or_model))


def base_of(run: Run) -> Loaded:
    """Load the model that a run began with, and give it the run's vocabulary; ModelError if it is another by now."""
    began, loaded = run.provenance("fingerprint"), pretrained.load(find_base(run))
    fit_vocabulary(loaded, pretrained.load_tokenizer(str(run.path))[0])
    if (
        pretrained.fingerprint(loaded.model) != began["fingerprint"].get("model")
        and run.config().train.quantize != "nf4"
    ):
        raise ModelError(
            f"{loaded.origin} is not the model that {run.path} began with: its weights differ.",
            "Put back what the run was trained from.",
        )
    return loaded


def find_base(run: Run) -> str:
    """Return the name or path that loads the model a run began with; UsageError if it is not there any more."""
    origin = run.from_here(run.provenance("model")["model"])
    name = origin if os.path.exists(origin) else run.located(run.config()).model.name
    locate(name)
    return name


def engine_of(model: PreTrainedModel, encoder: Encoder, name: str, config: Config) -> Engine:
    """Make an engine that answers as the settings say, on a GPU if there is one with room.

    Where the engine keeps a copy of the weights, the model's own are cast to the same type, to save memory.
    """
    device = _device(model)
    dtype = DTYPES[resolve(config.generate.precision, "generate.precision", gpu=device.type != "cpu")]
    keep_freed_pages()  # what one token frees the next one wants again
    model.to(device)
    engine = Engine(model, encoder, name, dtype)
    engine.sampling, engine.batch_size = config.generate.sampling(), config.generate.batch_size
    if engine.decoder is not None:
        model.to(dtype)
    return engine


def _device(model: PreTrainedModel) -> torch.device:
    """Choose the GPU where it has room for the weights, and as much again for an engine's copy and for answers."""
    gpu = torch.device("cuda")
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    has_room = torch.cuda.is_available() and 2 * weights < free_memory(gpu)
    return gpu if has_room else torch.device("cpu")
