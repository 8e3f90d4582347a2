"""Settings: defaults < a recipe < overrides, merged into the frozen `Config`; and a `Config` as settings again.

What enters: a recipe's path and `section.key=value` strings. What leaves: a `Config`, or one UsageError that lists all
that is wrong at once.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from heedful.config import PACKED, Config
from heedful.errors import UsageError, as_written, did_you_mean
from heedful.recipe import read_recipe

Settings = Mapping[str, Any] | Sequence[str]  # leaf -> value, or `section.key=value` strings


def load_config(recipe: Path | str | None = None, *settings: Settings) -> Config:
    """Merge defaults, a recipe file and settings, the later over the earlier."""
    named: dict[str, Any] = {}
    for part in (read_recipe(Path(recipe)) if recipe is not None else {}, *settings):
        named |= by_leaf(part)
    problems = [_unknown(leaf) for leaf in named if leaf not in LEAVES]
    config = Config()
    try:
        config = Config.model_validate(_tree({leaf: value for leaf, value in named.items() if leaf in LEAVES}))
    except ValidationError as error:
        problems += dict.fromkeys(_invalid(detail, named) for detail in error.errors())  # alike for several items
    problems = problems or _conflicts(config)
    if problems:
        raise UsageError(" ".join(problems), "See `heedful train --settings` for every setting.")
    return config


def override(config: Config, *settings: Settings) -> Config:
    """Return the settings with others over them."""
    return load_config(None, leaves(config), *settings)


def by_leaf(settings: Settings) -> dict[str, Any]:
    """Return settings as {"section.key": value}, whether or not the leaves are known."""
    named = isinstance(settings, Mapping | list | tuple) and all(isinstance(setting, str) for setting in settings)
    if not named:
        raise UsageError(
            f"settings must be a mapping or a list of texts, not {settings!r}.",
            'Write {"train.lr": 1e-4} or ["train.lr=1e-4"].',
        )
    return dict(settings if isinstance(settings, Mapping) else map(split_override, settings))


def dump_config(config: Config) -> str:
    """Return the whole tree as YAML that `load_config` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def leaves(config: Config, only_named: bool = False) -> dict[str, Any]:
    """Return every setting, or those that were named, as {"section.key": value}, in values that JSON has."""
    tree = config.model_dump(mode="json", exclude_unset=only_named)
    return {f"{section}.{key}": value for section, keys in tree.items() for key, value in keys.items()}


LEAVES = tuple(leaves(Config()))


def changed(config: Config) -> dict[str, Any]:
    """Return the leaves that differ from the defaults."""
    return {leaf: value for leaf, (_, value) in differences(Config(), config).items()}


def differences(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """Return the leaves that differ, each with both values."""
    values, others = leaves(one), leaves(other)
    return {leaf: (value, others[leaf]) for leaf, value in values.items() if value != others[leaf]}


def _conflicts(config: Config) -> list[str]:
    """List the settings that contradict each other; top_p at temperature 0 has no effect, but contradicts nothing."""
    problems = []
    if config.encode.supervise == "all" and config.encode.prompt_weight:
        problems.append("encode.prompt_weight has no meaning with encode.supervise=all: every token counts 1 there.")
    if config.data.test_share + config.data.validation_share >= 1:
        problems.append("data.test_share and data.validation_share leave nothing to train on.")
    if config.train.quantize == "nf4" and config.train.method == "full":
        problems.append("train.quantize=nf4 freezes the weights, so it needs train.method=lora.")
    if config.train.sharding == "full":
        packed = [(k, v) for k, v in PACKED.items() if getattr(config.train, k) == v]
        problems += [f"train.{k}={v} cannot be shared out by train.sharding=full." for k, v in packed]
    if config.train.method == "full":
        adapters = [leaf for leaf in changed(config) if leaf.startswith("train.lora_")]
        problems += [f"{leaf} has no meaning with train.method=full." for leaf in adapters]
    return problems


def refuse_others(settings: Mapping[str, Any], read: Collection[str], verb: str) -> None:
    """Raise a UsageError for a setting that a verb does not read."""
    for leaf in settings:
        if leaf not in {f"generate.{name}" for name in read}:
            raise UsageError(f"{verb} does not read {leaf}.", f"Of the generate settings it reads {', '.join(read)}.")


def split_override(text: str) -> tuple[str, Any]:
    leaf, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text} has no value.", "Write it as section.key=value, as in --set train.lr=1e-4.")
    try:
        return leaf.strip(), yaml.safe_load(value)
    except Exception:  # not of YAML alone: a date that does not exist, a tag without its value
        return leaf.strip(), value


def _tree(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Put values by leaf into their sections."""
    tree: dict[str, dict[str, Any]] = {}
    for leaf, value in values.items():
        section, _, key = leaf.partition(".")
        tree.setdefault(section, {})[key] = value
    return tree


def _unknown(leaf: str) -> str:
    """Suggest the nearest setting of the same key, or of any if there is none."""
    same_key = [known for known in LEAVES if known.split(".")[1] == leaf.rpartition(".")[2]]
    hint = did_you_mean(leaf, same_key or LEAVES) or (f"Did you mean '{same_key[0]}'?" if same_key else "")
    return f"There is no setting '{leaf}'. {hint}".strip()


def _invalid(detail: Any, named: Mapping[str, Any]) -> str:
    """Say what is wrong with a setting, and show its whole value, even if only an item of it is wrong."""
    leaf = ".".join(detail["loc"][:2])
    message = detail["msg"][0].lower() + detail["msg"][1:]
    return f"{leaf}={_shown(named[leaf])} is not valid: {message}."


def _shown(value: Any) -> str:
    """Return any value, also one that no setting has, in words that --set would take."""
    if isinstance(value, dict | list):  # JSON would turn the key 1 into "1", and refuse a date
        with suppress(yaml.YAMLError):
            return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=math.inf).strip()
    return as_written(value) if isinstance(value, bool | float | None) else str(value)
