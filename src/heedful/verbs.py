"""The smaller verbs: answer, talk, list and fetch models, examine the machine. They print what they find."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from heedful import data as data_stage
from heedful import model as models
from heedful import pipeline
from heedful.catalogue import CATALOGUE, works_offline
from heedful.config import load_config
from heedful.errors import UsageError
from heedful.evaluate.score import question
from heedful.records import Message
from heedful.report import screen
from heedful.run import write_json
from heedful.train.precision import native_bf16


def answer_one(
    run_or_model: str, prompt: str, input: str, system: str | None, settings: Mapping[str, Any], as_json: bool
) -> None:
    """Answer one prompt on stdout."""
    head = [Message("system", system)] if system else []
    completion = pipeline.generate(run_or_model, [[*head, Message("user", prompt, input=input)]], settings=settings)[0]
    if as_json:
        print(json.dumps({"text": completion.text, "finish_reason": completion.finish_reason,
                          "token_ids": completion.token_ids, "prompt_tokens": completion.prompt_tokens,
                          "seconds": round(completion.seconds, 3)}, ensure_ascii=False))  # fmt: skip
    else:
        print(screen.plain(completion.text))


def answer_file(run_or_model: str, data: str, out: Path | None, settings: Mapping[str, Any]) -> None:
    """Answer every row of a data set; the rows with `model_response` go to a file."""
    if out is None:
        raise UsageError("--data needs --out FILE for the answers.")
    config = load_config(None, settings, {"data.path": data, "data.test_share": 0, "data.validation_share": 0})
    rows = sorted(data_stage.load(config.data)[0].train, key=lambda row: row.place.row)
    engine = pipeline.load(run_or_model, settings=settings)
    with screen.counting_bar(f"Answering {len(rows)} rows", len(rows)) as on_done:
        prompts = [question(row) for row in rows]
        answers = engine.generate(prompts, pipeline.sampling_of(config), config.generate.batch_size, on_done)
    write_json(out, [{**row.row, "model_response": a.text} for row, a in zip(rows, answers, strict=True)])
    screen.say(f"{len(rows)} answers are in {out}.")


def talk(run_or_model: str, system: str | None, settings: Mapping[str, Any]) -> None:
    """Chat in the terminal."""
    from heedful.serve.chat import chat

    chat(pipeline.load(run_or_model, settings=settings), pipeline.sampling_of(load_config(None, settings)), system)


def list_models(as_json: bool) -> None:
    rows = [
        {"name": n, "parameters": e.parameters, "licence": e.licence, "hub_id": e.hub_id, "offline": works_offline(n)}
        for n, e in CATALOGUE.items()
    ]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table("name", "parameters", "licence", "on this machine", "Hugging Face id", box=None, pad_edge=False)
    for row in rows:
        offline = "yes" if row["offline"] else "needs the network"
        table.add_row(str(row["name"]), str(row["parameters"]), str(row["licence"]), offline, str(row["hub_id"]))
    screen.out.print(table)
    screen.out.print(
        "A folder, a .gguf file and any Hugging Face id of a causal language model work as well.", style="dim"
    )


def pull(name: str) -> Path:
    """Fetch or convert a model, so that it loads at once from then on; give its folder."""
    loaded = models.load(name)
    if Path(loaded.origin).is_dir():
        return Path(loaded.origin)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(loaded.origin, local_files_only=True))


def examine(as_json: bool) -> None:
    """Print what this machine offers."""
    import torch
    import transformers

    page = os.sysconf("SC_PAGE_SIZE")
    facts = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(page * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "free_memory_gib": round(page * os.sysconf("SC_AVPHYS_PAGES") / 2**30, 1),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "native_bf16": native_bf16(),
        "precision": "bf16" if native_bf16() else "fp32",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "models_on_this_machine": [name for name in CATALOGUE if works_offline(name)],
    }
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for key, value in facts.items():
        table.add_row(key.replace("_", " "), ", ".join(value) if isinstance(value, list) else str(value))
    screen.out.print(table)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
