"""The verb `check`: what becomes of each row, and what a model would learn from it. No model is loaded.

Libraries take seconds to import, so whatever can be refused without them is checked before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from heedful.begin import Name, configure
from heedful.config import Config, EncodeConfig
from heedful.data import load_splits
from heedful.data.sources import check_exists
from heedful.model.catalogue import locate
from heedful.report.bars import TERMINAL
from heedful.run import Run
from heedful.settings import Settings, load_config

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from heedful.encode.prepare import Prepared

ASSUMED = 1024  # tokens of a row, where neither the model nor the settings say


def check(data: Name = None, *, model: Name | Run = None, recipe: Name = None, settings: Settings = ()) -> Prepared:
    """Read and encode a data set without training on it; `receipt` of the result accounts for every row."""
    return prepare_data(configure(recipe, settings, data, model))[0]


def prepare_data(config: Config) -> tuple[Prepared, PretrainedConfig]:
    """Read, split and encode the data of a configuration for its model; return that model's own configuration too."""
    locate(config.model.name)
    splits, receipt = load_splits(config.data, TERMINAL)
    from heedful.encode.prepare import prepare
    from heedful.model import pretrained

    tokenizer, model_config, _ = pretrained.load_tokenizer(config.model.name)
    bounded = config.model_copy(update={"encode": bound(config.encode, model_config, TERMINAL.say)})
    positions = pretrained.max_positions(model_config)
    return prepare(bounded, splits, receipt.as_dict(), tokenizer, positions, TERMINAL), model_config


def bound(encode: EncodeConfig, model: PretrainedConfig, say: Callable[[str], None]) -> EncodeConfig:
    """Assume a longest row to train on where neither the settings nor the model name one."""
    from heedful.model.pretrained import BOUNDLESS, max_positions

    if encode.max_tokens or max_positions(model) < BOUNDLESS:
        return encode
    say(f"{model.model_type} models name no context length; {ASSUMED:,} tokens are assumed (see encode.max_tokens).")
    return encode.model_copy(update={"max_tokens": ASSUMED})


def precheck_training(data: Name, model: Name, recipe: Name, settings: Settings) -> None:
    """Raise early for train, sweep and doctor: bad settings, an unknown model, missing data."""
    config = configure(recipe, settings, data, model)
    locate(config.model.name)
    check_exists(config.data.path)


def precheck_model(run_or_model: str, settings: Settings, data: str | None = None) -> None:
    """Raise early for generate, chat and serve: bad settings, an unknown run or model, missing data."""
    load_config(None, settings)
    locate(run_or_model)
    if data is not None:
        check_exists(data)
