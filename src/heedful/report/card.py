"""The README.md of a model or of an adapter alone: what its finder should know, as Hugging Face reads it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from heedful import __version__
from heedful.model.catalogue import CATALOGUE, Entry
from heedful.report import lines
from heedful.report.facts import Facts
from heedful.report.labels import counted, label
from heedful.report.receipt import truncated
from heedful.report.scores import on_rows, score_table, verdict
from heedful.run import Run
from heedful.system.atomic import atomic_write

TEMPLATES = Path(__file__).parent / "templates"
SHARES = {"train": "learned from", "validation": "for the validation loss", "test": "for the scores"}


def write_card(run: Run) -> Path | None:
    """Write the model card and give its path; None without a model, or without the receipt of what it learned from."""
    if not run.has_model or not Facts(run).receipt:
        return None
    path = run.model / "README.md"
    atomic_write(path, card(run))
    return path


def card(run: Run, adapter: bool = False) -> str:
    """Return the model card; that of the `adapter` alone names the base that it needs."""
    facts, lies_on = Facts(run), adapter_base(run) if adapter else {}
    model, data = facts.names
    evaluation, encoding = facts.evaluation, facts.receipt["encoding"]
    word = verdict(evaluation, "base", "tuned", "The tuned model", "the base model") if evaluation else None
    environment = Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True)
    text: str = environment.get_template("card.md").render(
        front=f"---\n{yaml.safe_dump(front_matter(facts, lies_on), sort_keys=False, allow_unicode=True)}---",
        adapter=adapter,
        path="path/to/its/base" if "needed" in lies_on else lies_on.get("name"),
        needed=_line(lies_on.get("needed", "")),
        name=_line(run.path.name),
        base=_line(model),
        data=_line(data),
        version=__version__,
        verdict=word["sentence"] if word else "",
        fence="```",
        template=encoding["template"],
        stop=encoding["stop_token"],
        rows=_rows(facts),
        training=_training(facts, adapter),
        scores=score_table(evaluation) if evaluation else None,
        evaluated=_line(on_rows(evaluation)) if evaluation else "",
        limits=_limits(facts),
    )
    return text


def adapter_base(run: Run) -> dict[str, str]:
    """Name what a run's adapter lies on, without a path of this machine: by its hub's id, or else as `Facts` does.

    What came from no hub is `needed` from elsewhere. So is the default model: the hub's weights are others.
    """
    facts, began = Facts(run), run.provenance("model", "fingerprint")
    origin, fingerprint = began["model"], began["fingerprint"]["model"]
    if not os.path.isabs(origin):
        return {"name": origin, "fingerprint": fingerprint}
    name, _ = facts.names
    needed = (
        f"The base model is not included and must be supplied: it was {name}, with weights of the fingerprint "
        f"{fingerprint}; an export without --adapter needs no base."
    )
    return {"name": name, "fingerprint": fingerprint, "needed": needed}


def front_matter(facts: Facts, lies_on: Mapping[str, str]) -> dict[str, Any]:
    """Return what the Hub reads; a licence only where it is known. `lies_on` is an adapter's base."""
    entry, hub_id = _base(facts)
    library, relation = "transformers", "finetune"
    if lies_on:
        library, relation, hub_id = "peft", "adapter", None if "needed" in lies_on else lies_on["name"]
    front: dict[str, Any] = {"library_name": library, "pipeline_tag": "text-generation"}
    front |= {"license": entry.licence.lower()} if entry else {}
    front |= {"base_model": hub_id, "base_model_relation": relation} if hub_id else {}
    front["tags"] = ["heedful", "instruction-tuning", facts.config.train.method]
    if facts.evaluation:
        front["model-index"] = [{"name": facts.run.path.name, "results": [_result(facts)]}]
    return front


def _base(facts: Facts) -> tuple[Entry | None, str | None]:
    """Find the base model in the catalogue, and its id on the Hub, by its name and where it was loaded from.

    A folder was kept as an absolute path: what lies in the working directory of today says nothing.
    """
    name, origin = facts.config.model.name, str(facts.provenance.get("model"))
    if name in CATALOGUE and not (os.path.isabs(origin) and name in Path(origin).parts):
        return CATALOGUE[name], CATALOGUE[name].hub_id
    return None, name if name == origin and not os.path.isabs(origin) else None


def _result(facts: Facts) -> dict[str, Any]:
    """Return the tuned model's scores in the form of the Hub's model index."""
    scores = facts.evaluation["models"]["tuned"]
    sha = facts.receipt["data"]["sha256"]
    return {
        "task": {"type": "text-generation"},
        "dataset": {"name": facts.names[1], "type": "instructions", "revision": sha},
        "metrics": [
            {"type": metric, "name": label(metric), "value": round(float(score["value"]), 6),
             "args": {end: round(float(score[end]), 6) for end in ("low", "high") if score[end] is not None}
             | {"rows": score["n"]}}
            for metric, score in scores.items()
        ],
    }  # fmt: skip


def _rows(facts: Facts) -> list[tuple[str, str]]:
    """Tell which rows were used, and which dropped and why."""
    data, encoding = facts.receipt["data"], facts.receipt["encoding"]
    skipped = ", ".join(f"{count:,} ({reason})" for reason, count in data["skipped"].items()) or "none"
    sizes = {part: f"{data['sizes'][part]:,}" for part in SHARES}
    if facts.rows_learned < data["sizes"]["train"]:
        sizes["train"] = f"{facts.rows_learned:,} of {sizes['train']}"
    left_out = {"validation": encoding.get("not_validated", {}), "test": encoding.get("not_scored", {})}
    for part, whys in left_out.items():
        if unused := sum(map(len, whys.values())):
            sizes[part] = f"{data['sizes'][part] - unused:,} of {sizes[part]}"
    used = ", ".join(f"{sizes[part]} {what}" for part, what in SHARES.items())
    leaks = ", ".join(f"{part} {n['exact']} word for word, {n['near']} nearly" for part, n in data["leaks"].items())
    counts = {  # of what most data sets have none of
        "rows dropped, as every answer has the weight 0": len(encoding.get("unlearned", ())),
        "rows dropped, as the chat template refuses them": len(encoding.get("refused", ())),
        **{f"validation rows left out, {why}": len(rows) for why, rows in left_out["validation"].items()},
        **{f"test rows not scored, {why}": len(rows) for why, rows in left_out["test"].items()},
        "test rows cut to fit the model": (facts.evaluation or {}).get("rows_cut", 0),
    }
    return [
        ("file", f"{_code(facts.names[1])}, sha256 `{data['sha256']}`"),
        ("rows", f"{data['read']:,} read, {data['kept']:,} kept; dropped: {_line(skipped)}"),
        ("split", f"{data['split']}: {used}"),
        ("duplicates", f"{data['exact_duplicates']:,} exact, {data['near_duplicates']:,} near"),
        ("questions of held-back rows that stand in the training rows", leaks or "none"),
        (
            "training rows too long to be encoded whole",
            f"{truncated(encoding)}; dropped for it: {len(encoding['dropped'])}",
        ),
        *((what, f"{count:,}") for what, count in counts.items() if count),
    ]


def _training(facts: Facts, adapter: bool) -> list[tuple[str, str]]:
    config, steps = facts.config, facts.events_of("step")
    told_changed = ", ".join(_code(f"{row['name']}={_plain(row['value'])}") for row in lines.settings(facts))
    lora = "LoRA adapters" if adapter else "LoRA adapters, merged into the weights"
    rows = [
        ("method", {"full": "all weights", "lora": lora}[config.train.method]),
        ("updates", f"{steps[-1]['step']:,} of {counted(config.train.batch_size, 'row')}" if steps else "unknown"),
        ("loss", {"response": "on the answers' tokens", "all": "on all tokens"}[config.encode.supervise]),
        ("settings that differ from heedful's defaults", told_changed or "none"),
    ]
    return [*rows, *(row for row in lines.origin(facts) if row[0] in ("Python", "packages"))]


def _limits(facts: Facts) -> list[str]:
    """Say what these figures do not show."""
    evaluation = facts.evaluation
    limits = [
        "The model says what is likely after such data; it may be wrong, and does not know when it is.",
        "What the base model got wrong about people and the world, this one may get wrong as well.",
    ]
    if evaluation:
        limits.append(
            f"The scores are on {counted(evaluation['rows'], 'row')} of the same data set: they say little of other "
            "kinds of questions. Likeness to a reference is not the same as being right."
        )
    left_out = facts.receipt["encoding"].get("not_validated", {})
    if facts.receipt["data"]["sizes"]["validation"] == sum(map(len, left_out.values())):
        limits.append("There was no row for a validation loss: the last weights are kept, not the best.")
    if evaluation and "forgetting" not in evaluation:
        limits.append("What it forgot of what the base model knew was not measured.")
    return limits


def _code(text: str) -> str:
    """Keep a text on one line of Markdown, as code: between more backticks than it holds, as none can be escaped."""
    line = " ".join(text.split())
    ticks = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    edge = " " * (line.startswith("`") or line.endswith("`"))
    return f"{ticks}{edge}{line}{edge}{ticks}"


def _plain(value: str) -> str:
    """Return a setting's value without the folders of this machine."""
    return Path(value).name if os.path.isabs(os.path.expanduser(value)) else value


def _line(text: str) -> str:
    """Keep a name from the outside on one line of Markdown, as text: no markup, no tags."""
    return "".join(f"\\{c}" if c in "`*_[]<>|\\" else c for c in " ".join(str(text).split()))
