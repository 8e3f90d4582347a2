"""What the files of a run tell, in the sentences and lines of a page."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from heedful.config import Config
from heedful.errors import as_written, typed
from heedful.report.facts import Facts
from heedful.report.labels import counted
from heedful.settings import changed, differences

Lines = list[tuple[str, str]]
# Not repeated as --set by the command that reproduces a run: it names the data, and each machine fits batch_tokens.
MACHINE = {"data.path", "encode.batch_tokens"}


def progress(facts: Facts) -> dict[str, str]:
    """Say how far a run came that has no scores."""
    steps = facts.events_of("step")
    if facts.run.has_model:
        command = f"heedful evaluate {typed(facts.run.path)}"
        if none := facts.none_to_score:
            sentence = f"{none}, so there are no scores; {command} --data FILE scores it on other rows."
        else:
            sentence = f"There are no scores yet: {command} gives them."
        return {"word": "Trained", "sentence": sentence}
    diverged = "diverged" in facts.provenance
    end = "The training diverged, and there is no model." if diverged else "The run is not finished."
    if not steps:
        return {"word": "Begun", "sentence": f"No update was logged. {end}"}
    last = steps[-1]
    loss = "not finite" if last["loss"] is None else f"{last['loss']:.3f} nats per token"
    return {
        "word": f"Step {last['step']:,}",
        "sentence": f"{last['epoch']:.2f} epochs of {facts.config.train.epochs}, loss {loss}. {end}",
    }


def curves_in_words(facts: Facts) -> str:
    """Say what the loss curves show."""
    parts = []
    steps = facts.events_of("step")
    losses = [event["loss"] for event in steps if event["loss"] is not None]
    if losses:
        tenth = max(1, len(losses) // 10)
        start, end = statistics.fmean(losses[:tenth]), statistics.fmean(losses[-tenth:])
        parts.append(f"The training loss goes from {start:.3f} to {end:.3f} (means of the first and the last tenth)")
    if lost := len(steps) - len(losses):
        parts.append(f"{lost:,} of {counted(len(steps), 'update')} had no finite loss")
    validations = facts.events_of("validation")
    held = [event for event in validations if event["validation_loss"] is not None]
    if held:
        best = min(held, key=lambda event: event["validation_loss"])
        parts.append(
            f"the validation loss from {held[0]['validation_loss']:.3f} to {held[-1]['validation_loss']:.3f}, "
            f"lowest at step {best['step']:,} with {best['validation_loss']:.3f}"
        )
    if lost := len(validations) - len(held):
        parts.append(f"{lost:,} of {counted(len(validations), 'validation')} gave no finite loss")
    text = ", ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else "No finite loss was logged."


def speed(facts: Facts) -> Lines:
    """Tell how fast the training went, and what it took."""
    steps = facts.events_of("step")
    if not steps:
        return []
    seconds = [event["seconds"] for event in steps]
    tokens = steps[-1]["tokens"]  # of all updates so far
    lines = [
        ("updates", f"{steps[-1]['step']:,}, {counted(facts.config.train.batch_size, 'row')} each"),
        ("an update takes", f"{statistics.median(seconds):.2f} s (median)"),
    ]
    if len(steps) == steps[-1]["step"]:  # otherwise the seconds of the steps between are not known
        lines += [
            ("in all", duration(sum(seconds)) + ", validation, samples and checkpoints not counted"),
            ("tokens", f"{tokens:,} at {tokens / sum(seconds):,.0f} a second"),
        ]
    told = facts.provenance
    if "peak_memory" in told:
        lines.append(("memory", f"{told['peak_memory'] / 2**30:.2f} GiB at most"))
    if "cpus" in told:
        words = (told.get("processor"), f"{told['cpus']} cores", told["platform"], *told.get("gpus", ()))
        lines.append(("machine", ", ".join(word for word in words if word)))
    smaller = facts.events_of("memory")
    if smaller:
        lines.append(("memory ran out", f"forwards became smaller {len(smaller)} times"))
    skipped = facts.events_of("skipped")
    if skipped:
        lines.append(("updates skipped", f"{len(skipped)}, as their loss or gradient was not finite"))
    return lines


def duration(seconds: float) -> str:
    """Write 3 min 20 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def settings(facts: Facts) -> list[dict[str, str]]:
    """List the settings that differ from the defaults."""
    return [
        {"name": leaf, "value": written(value), "default": written(default)}
        for leaf, (default, value) in differences(Config(), facts.config).items()
    ]


def written(value: Any) -> str:
    return "not set" if value is None else as_written(value)


def apart(differ: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """List the settings in which two runs differ."""
    return [{"name": leaf, "values": [written(v) for v in values]} for leaf, values in differ.items()]


def command(facts: Facts) -> str:
    """Return the one command that trains the same model from the same data on such a machine."""
    config = facts.config
    words = ["heedful", "train", config.data.path, "--model", config.model.name]
    for leaf, value in changed(config).items():
        if leaf not in MACHINE | {"model.name"}:
            words += ["--set", f"{leaf}={_yaml(value)}"]
    return shlex.join(words)


def _yaml(value: Any) -> str:
    import yaml

    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()


def origin(facts: Facts) -> Lines:
    """Tell from what the run came: data, weights, versions."""
    told = facts.provenance
    packages = ", ".join(f"{name} {version}" for name, version in told.get("packages", {}).items())
    rows = [
        ("started", told.get("started")),
        ("command", shlex.join(told["command"]) if "command" in told else None),
        ("resumed", ", ".join(f"at step {later['step']}, {later['started']}" for later in told.get("resumed", ()))),
        (
            "diverged",
            "when it was trained on: the model is of before" if "diverged" in told and facts.run.has_model else None,
        ),
        ("data", f"{facts.config.data.path}, sha256 {told['data']}" if "data" in told else None),
        (
            "model",
            f"{told['model']}, weights {told.get('fingerprint', {}).get('model', '?')}" if "model" in told else None,
        ),
        ("examples", told.get("fingerprint", {}).get("examples")),
        ("Python", told.get("python")),
        ("packages", packages or None),
    ]
    return [(name, str(value)) for name, value in rows if value]
