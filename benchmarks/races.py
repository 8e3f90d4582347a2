"""Who runs against whom, on which workload, how often. Contestants of a race take turns: A B C A B C ..."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Contestant:
    """A module of benchmarks.contestants with its settings; `best_of` names a race whose winner's settings to add."""

    module: str
    settings: dict[str, Any] = field(default_factory=dict)
    best_of: str | None = None


@dataclass(frozen=True)
class Race:
    """`unit` is what one number of seconds is for; the figure of a round is the median over the measured units."""

    name: str
    workload: str
    unit: str
    contestants: dict[str, Contestant]
    warm_up: int = 2
    measured: int = 5
    rounds: int = 3


UPDATE = "update of 8 rows"


def _heedful(layout: str = "tree", learn: str = "response", **settings: Any) -> Contestant:
    given = {f"train.{key}": value for key, value in settings.items()}
    return Contestant("heedful_training", {"learn": learn, "settings": {"encode.layout": layout, **given}})


def _trl(learn: str = "response", lora: bool = False, **arguments: Any) -> Contestant:
    return Contestant("trl_training", {"learn": learn, "lora": lora, "arguments": arguments})


TUTORIAL = Contestant("tutorial_training", {"learn": "all"})
TRL_BEST = Contestant("trl_training", best_of="trl_search")
BF16: dict[str, Any] = {"bf16": True}
FUSED: dict[str, Any] = {"optim": "adamw_torch_fused"}

RACES = [
    Race(
        "trl_search",
        "smollm2",
        UPDATE,
        {
            "as it comes": Contestant("trl_training", {"arguments": {"gradient_checkpointing": True}}),
            "fp32, plain AdamW": _trl(bf16=False, optim="adamw_torch"),
            "fp32, fused AdamW": _trl(bf16=False, **FUSED),
            "bf16, plain AdamW": _trl(**BF16, optim="adamw_torch"),
            "bf16, fused AdamW": _trl(**BF16, **FUSED),
            "bf16, fused AdamW, all tokens": _trl("all", **BF16, **FUSED),
            "bf16, fused AdamW, padding-free": _trl(**BF16, **FUSED, padding_free=True),
            "bf16, fused AdamW, packed": _trl(
                **BF16, **FUSED, packing=True, max_length=1024, per_device_train_batch_size=1
            ),
            "bf16, fused AdamW, eager attention": Contestant(
                "trl_training", {"attention": "eager", "arguments": {**BF16, **FUSED}}
            ),
        },
        measured=4,
        rounds=1,
    ),
    Race(
        "gpt2",
        "gpt2",
        UPDATE,
        {
            "tutorial": TUTORIAL,
            "heedful tree, all tokens": _heedful(learn="all"),
            "heedful tree": _heedful(),
            "heedful padded": _heedful("padded"),
            "heedful tree, all tokens, fp32": _heedful(learn="all", precision="fp32"),
            "heedful tree, fp32": _heedful(precision="fp32"),
        },
    ),
    Race(
        "smollm2",
        "smollm2",
        UPDATE,
        {
            "tutorial": TUTORIAL,
            "trl": TRL_BEST,
            "transformers Trainer": Contestant("trainer_training", {"arguments": {**BF16, **FUSED}}),
            "heedful tree": _heedful(),
            "heedful tree, all tokens": _heedful(learn="all"),
            "heedful padded": _heedful("padded"),
            "heedful tree, fp32": _heedful(precision="fp32"),
            "heedful lora": _heedful(method="lora"),
            "trl lora": Contestant("trl_training", {"lora": True}, best_of="trl_search"),
        },
    ),
    Race(
        "one_document",
        "one_document",
        UPDATE,
        {"heedful padded": _heedful("padded"), "heedful tree": _heedful(), "trl": TRL_BEST},
        warm_up=1,
        measured=3,
    ),
    Race(
        "many_documents",
        "many_documents",
        UPDATE,
        {"heedful padded": _heedful("padded"), "heedful tree": _heedful()},
        warm_up=1,
        measured=3,
        rounds=2,
    ),
    Race(
        "chats",
        "chats",
        UPDATE,
        {"heedful padded": _heedful("padded"), "heedful tree": _heedful(), "trl": TRL_BEST},
        warm_up=1,
        measured=3,
    ),
]


def quick(race: Race) -> Race:
    """Shorten a race to what shows that it runs."""
    return replace(race, warm_up=1, measured=2, rounds=min(race.rounds, 2))
