"""A finished run made by hand: what the tests of the page, the card and the watcher read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heedful.data.row_losses import RowLosses
from heedful.evaluate.metrics import rouge_l
from heedful.evaluate.rows import Cell, RowScores, write_rows
from heedful.provenance import provenance
from heedful.run import Run
from heedful.settings import load_config
from heedful.system.atomic import write_json

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def score(value: float, n: int = 40) -> dict[str, float]:
    return {"value": value, "low": max(0.0, value - 0.05), "high": value + 0.05, "n": n}


def evaluation(rows: int = 40, names: tuple[str, str] = ("base", "tuned"), verdict: str = "better") -> dict[str, Any]:
    values = {"nll": (1.4, 0.8), "exact_match": (0.1, 0.3), "rouge_l": (0.3, 0.6), "stopped": (0.8, 1.0),
              "length_capped": (0.2, 0.0), "looped": (0.1, 0.0)}  # fmt: skip
    models = {name: {metric: score(pair[k], rows) for metric, pair in values.items()} for k, name in enumerate(names)}
    paired = {
        metric: {"difference": b - a, "low": b - a - 0.1, "high": b - a + 0.1, "p_value": 0.0002, "verdict": verdict}
        for metric, (a, b) in values.items()
    }
    of = {"data": "rows.json", "rows": "held back", "settings": {}}
    return {"rows": rows, "decides": "rouge_l", "models": models, "paired": paired, "of": of}


def responses(rows: int) -> list[dict[str, Any]]:
    return [
        {
            "instruction": f"Say word {k}." if k else f"What is {EVIL}?",
            "input": "" if k % 3 else f"the input {k}",
            "output": f"The word is {k}." if k else f"It is {EVIL}.",
            "place": f"rows.json:{k + 1} (row {k + 1})",
            "base_response": f"A word, maybe {k + 1}, who knows?" if k else EVIL,
            "base_response_finish": "length" if k % 5 == 0 else "stop",
            "model_response": f"The word is {k if k % 2 else k + 1}." if k else f"It is {EVIL}.",
            "model_response_finish": "stop",
        }
        for k in range(rows)
    ]


def scored(number: int, row: dict[str, Any]) -> RowScores:
    cells = {
        model: Cell({"rouge_l": rouge_l(row[f"{key}_response"], row["output"])})
        for model, key in (("base", "base"), ("tuned", "model"))
    }
    return RowScores(str(number), row["place"], f"key {number}", cells)


def receipt(rows: int = 80) -> dict[str, Any]:
    lengths = {"min": 3.0, "median": 9.0, "p95": 20.0, "max": 24.0, "sum": 700.0}
    histogram = {"edges": [0, 5, 10, 15, 20, 25], "rows": [3, 40, 20, 10, rows - 73]}
    return {
        "data": {
            "path": "rows.json", "sha256": "ab" * 32, "format": "alpaca", "why": "each row has it",
            "columns": {"instruction": "instruction", "output": "output", "input": "input"}, "not_read": ["id"],
            "read": 130, "kept": 124, "skipped": {EVIL: 6}, "first_skipped": [f"rows.json:9: {EVIL}"],
            "exact_duplicates": 1, "near_duplicates": 2, "approximate": False, "split": "leak_aware",
            "sizes": {"train": rows, "validation": 4, "test": 40},
            "leaks": {"validation": {"exact": 0, "near": 0}, "test": {"exact": 0, "near": 1}}, "notes": [],
        },
        "encoding": {
            "template": "chatml", "stop_token": "<|im_end|>", "limit": 128, "rows": rows, "rows_with_target": rows,
            "stop_supervised": rows, "prompt_tokens": lengths, "answer_tokens": lengths, "truncated": {},
            "dropped": [], "unlearned": [], "special_tokens_in_text": 0, "cut_in_pieces": 0, "batch_widths": [20, 21],
            "prompt_lengths": histogram, "answer_lengths": histogram,
        },
        "rows": [
            {"place": "rows.json:1", "tokens": [["<|im_start|>", False], [EVIL, False], ["Yes", True]], "more": 7}
        ],
    }  # fmt: skip


def events(steps: int = 60) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        at = {"step": step, "epoch": step / steps * 2, "tokens": 100 * step}
        found.append({"event": "step", "loss": 2 / step + 0.5, "seconds": 0.25, "lr": 1e-4, "grad_norm": 1.0, **at})
        if step % 10 == 0:
            found.append({"event": "validation", "validation_loss": 0.7, "targets": 40, **at})
    return found


def finished_run(path: Path, rows: int = 40, trained: int = 80) -> Run:
    """Write every file that a page is made of, with markup wherever text comes from outside."""
    run = Run(path)
    run.model.mkdir(parents=True)
    (run.model / "config.json").write_text("{}")
    run.write_config(load_config(None, {"data.path": "rows.json", "train.lr": 2e-4, "generate.stop": [EVIL]}))
    facts: dict[str, Any] = {"model": "hub/tiny", "data": "ab" * 32, "fingerprint": {"model": "cd", "examples": "ef"}}
    write_json(run.provenance_file, provenance(run, 0, facts) | {"command": ["heedful", EVIL], "peak_memory": 2**31})
    write_json(run.receipt_file, receipt(trained))
    for event in events():
        run.log(event)
    probes = {part: evaluation(100)[part] for part in ("rows", "models", "paired")}
    judge = probes | {"model": EVIL, "tokens": {"prompt": 1200, "completion": 30}, "unscored": 0}
    told = {"forgetting": probes | {"families": {"arithmetic": probes}}, "judge": judge, "checks": probes}
    write_json(run.evaluation_file, evaluation(rows) | told)
    write_json(run.responses_file, answers := responses(rows))
    write_rows(run.scores_file, [scored(k, row) for k, row in enumerate(answers)])
    losses = RowLosses(run.row_losses_file, trained)
    for epoch in range(2):
        nll = [(k % 7 + 1) / (epoch + 1) for k in range(trained)]
        losses.keep(epoch, range(trained), nll, [3] * trained)
    look = [
        {"place": f"rows.json:{k}", "question": EVIL, "answer": EVIL, "losses": [5.1, None], "why": "high"}
        for k in range(12)
    ]
    letters = "".join(k * n for k, n in zip("ehs", (trained // 2, trained - trained // 2 - 3, 3), strict=True))
    kinds = {"easy": trained // 2, "hard": trained // 2 - 3, "suspect": 3}
    write_json(run.data_map_file, {"rows": trained, "trained": trained, **kinds, "kinds": letters, "look": look})
    return run
