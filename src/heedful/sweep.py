"""A grid of settings, each trained with several seeds, one run after another; then one table and the winner's recipe.

A run that is finished is not repeated, one that was killed goes on. Variants are compared on the same held-back rows,
each row's score averaged over the seeds, against the variant that the defaults and the recipe give, or else the first.
Rows are what is resampled, so a verdict is about the trainings that were made: it does not say how another training,
with another seed, would end.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

import yaml

from heedful import pipeline
from heedful.address import redacted
from heedful.begin import SETTLED, configure
from heedful.checking import prepare_data
from heedful.config import Config, DataConfig
from heedful.data import load_splits
from heedful.encode.account import left_out_in_words
from heedful.errors import Diverged, Interrupted, NotFinite, UsageError, as_written, did_you_mean
from heedful.evaluate.held_back import why_none
from heedful.evaluate.variants import Variant, table
from heedful.report import screen
from heedful.run import Run, holds_run, make_directory, slug
from heedful.settings import LEAVES, Settings, dump_config, leaves, override
from heedful.system.atomic import atomic_write, read_json, write_json

FIXED = {  # what a sweep may not vary, and why
    "train.seed": "--seeds gives each variant its seeds",
    "evaluate.decides": "the deciding score is chosen once, before",
    "evaluate.after_training": "every run of a sweep is evaluated",
}
RECOUNT = ("model.name", "encode.template")  # settings that change into which tokens an answer is cut


def sweep(
    data: str | None = None,
    *,
    vary: Sequence[str],
    seeds: int = 1,
    model: str | None = None,
    recipe: str | None = None,
    settings: Settings = (),
    out: Path | str | None = None,
) -> dict[str, Any]:
    """Train and evaluate every variant with every seed; give sweep.json, which lies beside the winner's recipe."""
    base = configure(recipe, settings, data, model)
    stem = slug(Path(redacted(base.data.path, rest="")).stem)
    folder = Path("runs") / f"sweep-{stem}" if out is None else Path(out).expanduser()
    if holds_run(folder):
        raise UsageError(f"{folder} holds a run, not a sweep.", "Choose another --out.")
    axes = [axis_of(text) for text in vary]
    _check_measure(axes, base.evaluate.decides)
    variants = grid(axes, folder, [base.train.seed + k for k in range(seeds)])
    configs = {run.path: _config(base, v, run) for v in variants for run in v.runs}
    _check_apart(variants, base)
    _check_earlier(configs, base.data)
    if not all(_is_finished(Run(path)) for path in configs):
        _check_scorable(configs.values())
    make_directory(Run(folder))
    compared = list(_finished(variants, configs))
    if not compared:
        raise Diverged("Every variant diverged with one of its seeds, so none can be compared.")
    default = next((v for v in compared if _is_default(v, base)), None)
    result = table(compared, default or compared[0], base.evaluate.decides)
    result["default"] = default.name if default else None
    result["diverged"] = [variant.name for variant in variants if variant not in compared]
    winner = next(v for v in compared if v.name == result["winner"])
    recommended = override(configs[winner.runs[0].path], {"data.path": redacted(base.data.path, rest="")})
    atomic_write(folder / "winner.yaml", dump_config(recommended))  # which is made to be handed on, without a key
    result["recipe"] = str(folder / "winner.yaml")
    write_json(folder / "sweep.json", result)
    return result


def axis_of(text: str) -> tuple[str, list[Any]]:
    """Read SECTION.KEY=VALUE,VALUE; a list in brackets, as in [a, b], is one value."""
    leaf, equals, listed = text.partition("=")
    leaf = leaf.strip()
    if leaf not in LEAVES:
        raise UsageError(f"--vary {text}: there is no setting '{leaf}'.", did_you_mean(leaf, LEAVES))
    why = FIXED.get(leaf) or ("every run must be judged by the same rows" if leaf.startswith("data.") else "")
    if why:
        raise UsageError(f"--vary {leaf} is not possible: {why}.")
    try:
        values = yaml.safe_load(f"[{listed}]")
    except Exception:  # as where --set is read
        values = []
    if not equals or not values:
        raise UsageError(f"--vary {text} lists no values.", "Write --vary train.lr=5e-5,1e-4.")
    return leaf, values


def _check_measure(axes: Sequence[tuple[str, list[Any]]], decides: str) -> None:
    """Refuse to let nats a token decide between variants whose answers are of different tokens."""
    other = [leaf for leaf, _ in axes if leaf in RECOUNT]
    if other and decides == "nll":
        raise UsageError(
            f"evaluate.decides=nll cannot compare what --vary {other[0]} gives: an answer's tokens differ there.",
            "Let rouge_l decide, or another score of the answers.",
        )


def grid(axes: Sequence[tuple[str, list[Any]]], folder: Path, seeds: Sequence[int]) -> list[Variant]:
    """Return every combination of the axes' values, with a folder for each of its seeds."""
    varied = [leaf for leaf, _ in axes]
    if not axes or len(set(varied)) < len(varied):
        raise UsageError("A sweep varies each setting once, and at least one.", "Add --vary train.lr=5e-5,1e-4.")
    found = []
    for values in product(*(values for _, values in axes)):
        settings = dict(zip(varied, values, strict=True))
        told = [(leaf.partition(".")[2], as_written(value)) for leaf, value in settings.items()]
        name = " ".join(f"{key}={value}" for key, value in told)
        plain = "".join(c if c.isalnum() or c in "=.-" else "_" for c in name)
        runs = tuple(Run(folder / plain / f"seed-{seed}") for seed in seeds)
        found.append(Variant(name, settings, runs))
    return found


def _config(base: Config, variant: Variant, run: Run) -> Config:
    """Return one run's settings; a value that cannot be is found here, before anything is trained."""
    fixed = {"train.seed": int(run.path.name.removeprefix("seed-")), "evaluate.after_training": True}
    return override(base, variant.settings, fixed)


def _check_apart(variants: Sequence[Variant], base: Config) -> None:
    """Refuse variants that are the same once their values are read, as 1e-4 and 0.0001, or would share a folder."""
    configs = [_config(base, variant, variant.runs[0]) for variant in variants]
    for (one, config), (other, another) in combinations(zip(variants, configs, strict=True), 2):
        if config == another:
            raise UsageError(f"{one.name} and {other.name} are the same settings.", "Give each value once.")
        if one.runs == other.runs:
            raise UsageError("Two variants of the sweep would share a folder.", "Give values that differ in letters.")


def _check_earlier(configs: Mapping[Path, Config], data: DataConfig) -> None:
    """Refuse a folder in which runs of other settings lie, or of other rows."""
    for path, config in configs.items():
        if holds_run(path):
            asked = leaves(config)
            kept = _asked_of(Run(path), asked)
            other = [leaf for leaf in asked if asked[leaf] != kept[leaf]]
            if other:
                values = {leaf: [redacted(as_written(tree[leaf])) for tree in (kept, asked)] for leaf in other}
                was = ", ".join(f"{leaf} was {one}, now {two}" for leaf, (one, two) in values.items())
                raise UsageError(f"{path} holds a run with other settings: {was}.", "Choose another --out.")
    _check_data(data, configs)


def _check_data(data: DataConfig, runs: Iterable[Path]) -> None:
    """Refuse to go on with data that has changed since runs in the folder were trained on it."""
    trained = {path: sha256 for path in runs if holds_run(path) and (sha256 := Run(path).provenance().get("data"))}
    now = load_splits(data)[1].sha256 if trained else None
    if other := next((path for path, sha256 in trained.items() if sha256 != now), None):
        problem = (
            f"{redacted(data.path)} is not what {other} was trained on, and variants are compared on the same rows."
        )
        raise UsageError(problem, "Choose another --out, or restore the file.")


def _check_scorable(configs: Iterable[Config]) -> None:
    """Refuse, before anything is trained, a grid of which no test row can be scored by every run."""
    alike = {tuple(leaves(config)[leaf] for leaf in RECOUNT): config for config in configs}
    why: dict[str, str] = {}  # a row's place -> why not every run can score it
    for config in alike.values():
        ready, _ = prepare_data(config)
        why |= {place: told for told, places in ready.receipt["encoding"]["not_scored"].items() for place in places}
    if not (test := len(ready.splits.test)):
        fix = "Give test rows as a file, or more rows." if config.data.test_share else "Set data.test_share above 0."
        raise UsageError(f"A sweep needs test rows, and none were held back{why_none(config.data)}.", fix)
    if len(why) == test:
        each = left_out_in_words({told: [place for place in why if why[place] == told] for told in why.values()})
        raise UsageError(f"None of the {test:,} test rows can be scored by every run: {each}.", "Hold others back.")


def _asked_of(run: Run, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a run was asked for, before it fitted some to its machine and its model.

    What an earlier version or a killed run wrote of that may be less: the rest counts as asked for alike.
    """
    kept, at_first = leaves(run.config()), run.provenance().get("asked", asked)
    return kept | {leaf: at_first.get(leaf, asked[leaf]) for leaf in SETTLED}


def _finished(variants: Sequence[Variant], configs: Mapping[Path, Config]) -> Iterator[Variant]:
    """Give the variants that can be compared, once each of their runs is trained and evaluated."""
    numbers = {path: number for number, path in enumerate(configs, 1)}

    def finish(run: Run) -> bool:
        screen.say(f"Run {numbers[run.path]} of {len(numbers)}: {run.path}")
        finished = _finish(run, configs[run.path])
        shutil.rmtree(run.checkpoints, ignore_errors=True)  # three times the model each: a grid would fill a disk
        return finished

    yield from (variant for variant in variants if all(map(finish, variant.runs)))


def _finish(run: Run, config: Config) -> bool:
    """Train and evaluate a run, or what is missing of it; say whether it can be compared: one that diverged cannot."""
    if _is_finished(run):
        screen.say("It is finished already.")
        return True
    if run.diverged:
        screen.say("It diverged, so its variant is left out.")
        return False
    try:
        if run.has_model and holds_run(run):
            pipeline.evaluate(run)
        elif holds_run(run):
            pipeline.train(out=run.path, resume=True)
        else:
            pipeline.train(settings=leaves(config), out=run.path)
    except (Interrupted, KeyboardInterrupt):
        screen.say("The same sweep command continues here.")
        raise
    except (Diverged, NotFinite) as error:
        screen.say(f"{error.problem} The sweep goes on without this variant.")
        return False
    return True


def _is_finished(run: Run) -> bool:
    """Say whether a run is evaluated, by its own settings: the scores may be of a later evaluation by others."""
    evaluated = run.scores_file.is_file() and run.evaluation_file.is_file()
    return evaluated and not read_json(run.evaluation_file)["of"]["settings"]


def _is_default(variant: Variant, base: Config) -> bool:
    """Say whether a variant is what would be trained without any --vary."""
    return _learned_with(override(base, variant.settings)) == _learned_with(base)


def _learned_with(config: Config) -> dict[str, Any]:
    """Return the settings with the learning rate that the method takes where none is set."""
    return leaves(config) | {"train.lr": config.train.peak_lr}
