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
TOKEN = "token"
BF16: dict[str, Any] = {"bf16": True}
FUSED: dict[str, Any] = {"optim": "adamw_torch_fused"}
KEEP_PAGES = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "2147483647", "MALLOC_TOP_PAD_": "268435456"}


def _heedful(layout: str = "tree", learn: str = "response", **settings: Any) -> Contestant:
    given = {f"train.{key}": value for key, value in settings.items()}
    return Contestant("heedful_training", {"learn": learn, "settings": {"encode.layout": layout, **given}})


def _trl(learn: str = "response", lora: bool = False, **arguments: Any) -> Contestant:
    return Contestant("trl_training", {"learn": learn, "lora": lora, "arguments": arguments})


def _curve(layout: str = "tree", **settings: Any) -> Contestant:
    """Train on the same rows, and validate at the end on all validation rows."""
    contestant = _heedful(layout, **settings)
    return replace(contestant, settings={**contestant.settings, "validate": 10**6})


def _transformers(**settings: Any) -> Contestant:
    return Contestant("transformers_answers", settings)


def _llama_cpp(kind: str) -> Contestant:
    return Contestant("llama_cpp_answers", {"kind": kind, "tokens": LENGTH})


def _packed(tokens: int) -> Contestant:
    """Pack rows to a length: an update then holds other rows than everybody else's."""
    return _shown(_trl(**BF16, **FUSED, packing=True, max_length=tokens, per_device_train_batch_size=1))


def _shown(contestant: Contestant, **settings: Any) -> Contestant:
    """Let a contestant run in a search that it cannot win, because what it does is not the task of the race."""
    return replace(contestant, settings={**contestant.settings, **settings, "only_shown": True})


TUTORIAL = Contestant("tutorial_training", {"learn": "all"})
TRL_BEST = Contestant("trl_training", best_of="trl_search")
TRAINER = Contestant("trainer_training", {"arguments": {**BF16, **FUSED}})
TRANSFORMERS_BEST = Contestant("transformers_answers", {"every": 1}, best_of="answers_search")
ALL_PROMPTS, FEW_PROMPTS = 1000, 2
LENGTH = 128  # tokens of a single stream's answers, whatever the model would stop at

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
            "bf16, fused AdamW, all tokens": _shown(_trl("all", **BF16, **FUSED)),
            "bf16, fused AdamW, padding-free": _trl(**BF16, **FUSED, padding_free=True),
            "bf16, fused AdamW, padding-free, glibc keeps pages": _shown(
                _trl(**BF16, **FUSED, padding_free=True), environment=KEEP_PAGES
            ),
            "bf16, fused AdamW, packed to 400 tokens": _packed(400),
            "bf16, fused AdamW, packed to 1,024 tokens": _packed(1024),
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
            "transformers Trainer": TRAINER,
            "heedful tree": _heedful(),
            "heedful tree, all tokens": _heedful(learn="all"),
            "heedful padded": _heedful("padded"),
            "heedful tree, fp32": _heedful(precision="fp32"),
            "heedful padded, fp32": _heedful("padded", precision="fp32"),
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
        rounds=2,
    ),
    Race(
        "apart",
        "apart",
        UPDATE,
        {
            "heedful tree": _heedful(),
            "heedful padded": _heedful("padded"),
            "trl": TRL_BEST,
            "trl, glibc keeps pages": replace(TRL_BEST, settings={"environment": KEEP_PAGES}),
            "transformers Trainer": TRAINER,
        },
    ),
    Race(
        "floor",
        "smollm2",
        UPDATE,
        {
            "heedful tree": _heedful(),
            "matmul floor": Contestant("matmul_floor", {"precision": "bf16"}),
        },
    ),
    Race(
        "answers_search",
        "answers",
        TOKEN,
        {
            "batch 8": _transformers(batch=8),
            "batch 32": _transformers(batch=32),
            "batch 64": _transformers(batch=64),
            "batch 128": _transformers(batch=128),
            "batch 32, fp32": _transformers(batch=32, dtype="float32", every=4),
            "generate_batch": _transformers(way="continuous", every=4),
            "generate_batch, a tenth of the memory": _transformers(
                way="continuous", cache={"max_memory_percent": 0.1}, every=4
            ),
        },
        measured=ALL_PROMPTS,
        rounds=1,
    ),
    Race(
        "answers",
        "answers",
        TOKEN,
        {
            "tutorial": Contestant("tutorial_answers", {"every": 10}),
            "transformers at its best": TRANSFORMERS_BEST,
            "transformers, one at a time": _transformers(every=10),
            "heedful": Contestant("heedful_answers"),
            "heedful, fp32": Contestant("heedful_answers", {"precision": "fp32"}),
        },
        measured=ALL_PROMPTS,
    ),
    Race(
        "stream",
        "answers",
        TOKEN,
        {
            "transformers, bf16": _transformers(tokens=LENGTH),
            "transformers, fp32": _transformers(tokens=LENGTH, dtype="float32"),
            "llama.cpp, bf16": _llama_cpp("bf16"),
            "llama.cpp, f32": _llama_cpp("f32"),
            "llama.cpp, q8_0": _llama_cpp("q8_0"),
            "heedful, bf16": Contestant("heedful_answers", {"alone": True, "tokens": LENGTH, "precision": "bf16"}),
            "heedful, fp32": Contestant("heedful_answers", {"alone": True, "tokens": LENGTH, "precision": "fp32"}),
        },
        measured=FEW_PROMPTS,
    ),
    Race(
        "curves",
        "smollm2",
        UPDATE,
        {
            "heedful tree, fp32": _curve(precision="fp32"),
            "heedful padded, fp32": _curve("padded", precision="fp32"),
            "heedful tree": _curve(),
        },
        warm_up=0,
        measured=50,
        rounds=1,
    ),
]


def quick(race: Race) -> Race:
    """Shorten a race to what shows that it runs."""
    return replace(race, warm_up=min(race.warm_up, 1), measured=2, rounds=min(race.rounds, 2))


def in_fp32(race: Race) -> Race:
    """Turn a race into that of a processor that gains nothing by bf16: everybody computes in fp32, and nobody twice."""
    kept: dict[str, Contestant] = {}
    for label, contestant in race.contestants.items():
        turned = contestant if contestant.best_of else replace(contestant, settings=_fp32(contestant))
        if turned not in kept.values():
            kept[label.replace("bf16", "fp32") + ", but fp32" * _left_to_trl(contestant)] = turned
    return replace(race, contestants=kept)


def _left_to_trl(contestant: Contestant) -> bool:
    """Say whether it is TRL that chooses the precision, which is bf16 unless it is told otherwise."""
    arguments = contestant.settings.get("arguments")
    return contestant.module == "trl_training" and arguments is not None and "bf16" not in arguments


def _fp32(contestant: Contestant) -> dict[str, Any]:
    """Return a contestant's settings with its own words for fp32 in them."""
    given = contestant.settings
    match contestant.module:
        case "heedful_training":
            return {**given, "settings": {**given["settings"], "train.precision": "fp32"}}
        case "trl_training" | "trainer_training":
            return {**given, "arguments": {**given["arguments"], "bf16": False}}
        case "transformers_answers":
            return {**given, "dtype": "float32"}
        case "heedful_answers" | "matmul_floor":
            return {**given, "precision": "fp32"}
        case "llama_cpp_answers" if given["kind"] == "bf16":
            return {**given, "kind": "f32"}
    return given
