"""A run or a model -> an engine that answers, prompted as in training."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedModel

from heedful import model as models
from heedful.config import Config
from heedful.encode.receipt import open_encoder
from heedful.encode.tokenise import Encoder
from heedful.generate.engine import Engine
from heedful.run import Run
from heedful.train.memory import keep_freed_pages
from heedful.train.precision import resolve


def open_tuned(run_or_model: Path | str, config: Config) -> tuple[Engine, Encoder]:
    """Load a run's or another model with the encoder that prompts it as in training."""
    loaded = models.load(str(run_or_model))
    folder = Path(loaded.origin) if Path(loaded.origin).is_dir() else None
    encoder = open_encoder(folder, loaded.tokenizer, models.max_positions(loaded.model.config))
    name = Path(run_or_model).name or Path(run_or_model).resolve().name
    return engine_of(loaded.model, encoder, name, config), encoder


def open_base(run: Run, config: Config) -> Engine:
    """Load the model that a run began with, in the chat format that it knows, or else in the run's."""
    loaded = models.load(run.config().model.name)
    positions = models.max_positions(loaded.model.config)
    encoder = open_encoder(None, loaded.tokenizer, positions)
    if encoder.template.name != "own":
        encoder = open_encoder(run.model, models.load_tokenizer(str(run.path))[0], positions)
        models.fit_vocabulary(loaded.model, encoder.tokenizer)
    return engine_of(loaded.model, encoder, f"{run.path.resolve().name}-base", config)


def engine_of(model: PreTrainedModel, encoder: Encoder, name: str, config: Config) -> Engine:
    """Let a model answer; where the engine copied its weights, its own are narrowed to the same type."""
    bf16 = resolve(config.generate.precision, "generate.precision") == "bf16"
    dtype = torch.bfloat16 if bf16 else torch.float32
    keep_freed_pages()  # what one token frees the next one wants again
    engine = Engine(model, encoder, name, dtype)
    if engine.decoder is not None:
        model.to(dtype)
    return engine
