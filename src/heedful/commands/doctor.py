"""What this machine can do, and what a training on it would take: measured, not looked up."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.table import Table

from heedful import __version__, kernels
from heedful.begin import configure
from heedful.checking import prepare_data
from heedful.errors import RunError
from heedful.live import terminal_display
from heedful.model.catalogue import CATALOGUE, works_offline
from heedful.report import screen
from heedful.report.labels import counted
from heedful.run import Run
from heedful.system import machine
from heedful.train.estimate import estimate, heaviest
from heedful.train.pace import measure, tokens_per_update
from heedful.train.precision import Precision, native_bf16, resolve
from heedful.train.ranks import single_rank
from heedful.train.session import Session, check, check_machine, load_fitting

GIB = 2**30
METHODS = "full", "lora"
KINDS: tuple[Precision, ...] = ("fp32", "bf16")


def examine(
    data: str | None, model: str | None, recipe: str | None, settings: Mapping[str, Any], as_json: bool
) -> None:
    """Print what the machine offers; where anything of a training is named, also what that would take."""
    facts = offers()
    if data or model or recipe or settings:
        facts["training"] = {}
        try:
            expects(facts["training"], data, model, recipe, settings)
        except RunError:  # it does not fit into memory: by how much is what was asked
            with suppress(OSError):  # a reader who left matters less
                _show(facts, as_json)
            raise
    _show(facts, as_json)


def _show(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        screen.show_json(facts)
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    for name, text in (*offers_in_words(facts), *training_in_words(facts.get("training", {}))):
        table.add_row(name, text)
    screen.out.print(table)


def offers_in_words(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Tell what the machine offers as a person would."""
    f = facts
    products = (f"{kind} {f[f'{kind}_gflops']} GFLOP/s, {f[f'{kind}_gflops_in_a_step']} in an update" for kind in KINDS)
    bf16 = "with instructions for bf16" if f["native_bf16"] else "without instructions for bf16"
    memory = f"{f['memory_gib']} GiB, of which {f['free_memory_gib']} are free"
    compiled = "compiled" if f["compiled_kernels"] else "not compiled, as no C compiler works here: torch's are used"
    return [
        ("processor", f"{f['processor']}, {f['cores']} cores, {f['instructions']}, {bf16}"),
        ("memory", f"{memory}; {f['memory_bandwidth_gb_per_s']} GB/s"),
        ("products", "; ".join(products)),
        ("trains in", f"{f['precision']}, unless train.precision says otherwise"),
        ("loops", compiled),
        ("GPU", f["gpu"] or "none"),
        ("models here", ", ".join(f["models_on_this_machine"]) or "none; a name of `heedful models` is fetched"),
        ("versions", ", ".join(f"{name} {f[name.lower()]}" for name in ("heedful", "Python", "torch", "transformers"))),
    ]


def training_in_words(training: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Tell what a training would take, as far as that was found out."""
    lines = []
    if needs := training.get("memory_needed_gib"):
        methods = (
            f"{method} {needs[f'{method}_fp32']} GiB in fp32, {needs[f'{method}_bf16']} in bf16" for method in METHODS
        )
        lines.append(("training needs", "; ".join(methods)))
    if "minutes" in training:
        t = training
        updates = f"{t['steps']:,} updates of {t['seconds_per_step']} s, {t['tokens_per_s']:,} tokens/s"
        forwards = f"at most {t['tokens_per_forward']:,} tokens a forward"
        lines.append(
            ("training takes", f"{t['minutes']} minutes, validation and saving included: {updates}, {forwards}")
        )
        if answers := t["answers"]:
            rows = counted(answers, "test row")
            lines.append(("and then", f"both models answer {rows}, which these minutes do not include"))
    return lines


def offers() -> dict[str, Any]:
    """Measure the machine."""
    import torch
    import transformers

    screen.say("Measuring the machine ...")
    return {
        "processor": machine.processor(),
        "cores": machine.cores(),
        "memory_gib": round(machine.memory() / GIB, 1),
        "free_memory_gib": round(machine.free_memory() / GIB, 1),
        "memory_bandwidth_gb_per_s": round(machine.bandwidth() / 1e9, 1),
        "fp32_gflops": round(machine.matmul_rate("fp32") / 1e9),
        "fp32_gflops_in_a_step": round(machine.matmul_rate("fp32", machine.STEP) / 1e9),
        "bf16_gflops": round(machine.matmul_rate("bf16") / 1e9),
        "bf16_gflops_in_a_step": round(machine.matmul_rate("bf16", machine.STEP) / 1e9),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": ", ".join(machine.gpus()) or None,
        "native_bf16": native_bf16(),
        "compiled_kernels": kernels.compiled() is not None,
        "precision": resolve("auto"),
        "heedful": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "models_on_this_machine": [name for name in CATALOGUE if works_offline(name)],
    }


def expects(
    told: dict[str, Any], data: str | None, model: str | None, recipe: str | None, settings: Mapping[str, Any]
) -> None:
    """Put into `told` the memory by method and precision, then measure a few updates: tokens/s and minutes.

    RunError if the training does not fit into memory, with the nearest setting that does; what train refuses is refused
    in the same words.
    """
    config, ranks = configure(recipe, settings, data, model), single_rank()
    check_machine(config.train, ranks)
    ready, model_config = prepare_data(config)
    check(config, ready)
    nodes, share, parted = heaviest(config, ready)
    needs = told["memory_needed_gib"] = {}
    for method in METHODS:
        chosen = config.train.model_copy(update={"method": method})
        for dtype in KINDS:
            need = estimate(model_config, chosen, dtype)
            need = need.of_several() if parted else need
            needs[f"{method}_{dtype}"] = round(need.at(nodes, share) / GIB, 2)
    config, loaded = load_fitting(config, config.model.name, model_config, ready, ranks, screen.say)
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Run(Path(folder)), config, ready, loaded, terminal_display(config, ready))
        costs = measure(session)
        steps = session.learner.steps
        seconds = costs.remaining(config.train, len(ready.train), 0, steps)
        told |= {
            "tokens_per_forward": config.encode.batch_tokens,
            "steps": steps,
            "answers": ready.scored if config.evaluate.after_training else 0,
            "tokens_per_s": round(tokens_per_update(session) / costs.step),
            "seconds_per_step": round(costs.step, 3),
            "minutes": round(seconds / 60, 2),
        }
