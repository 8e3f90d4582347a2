"""The verb `check`: what becomes of each row, and what a model would learn from it. No model is loaded.

Libraries take seconds to import, so whatever can be refused without them is checked before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heedful.begin import Name, configure
from heedful.config import Config, EncodeConfig
from heedful.data import load_splits
from heedful.data.sources import check_exists
from heedful.errors import RunError, UsageError
from heedful.model.catalogue import locate
from heedful.report import screen
from heedful.report.bars import TERMINAL
from heedful.run import Run, slug
from heedful.settings import Settings, load_config
from heedful.system.atomic import write_json
from heedful.system.store import cache_home

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


def check_receipt_path(out: Path | None) -> None:
    """Raise UsageError if a receipt would replace a file that is not one, such as the data."""
    if out is None or not out.exists():
        return
    held = None
    if out.is_file():  # a pipe would be waited for
        with suppress(OSError, ValueError):
            held = json.loads(out.read_text(encoding="utf-8"))
    if not isinstance(held, dict) or "encoding" not in held:
        raise UsageError(f"{out} exists and is not a receipt.", "Choose another --out.")


def store_receipt(receipt: Mapping[str, Any], out: Path | None) -> None:
    """Store a receipt in `out`, or else in the cache under the data's name and its own hash; say where."""
    digest = hashlib.sha256(json.dumps(receipt).encode()).hexdigest()
    place = out or cache_home() / "receipts" / f"{slug(Path(receipt['data']['path']).stem)}-{digest[:8]}.json"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, receipt)
    except (OSError, RunError) as error:
        if out is not None:
            raise UsageError(f"Cannot write {out}.", "Choose another --out.") from error
        screen.say(f"The receipt is not stored: {place.parent} cannot be written.")
    else:
        screen.say(f"The receipt is stored in {place}.")
