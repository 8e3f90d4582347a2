"""llama.cpp by way of node-llama-cpp: the same weights as a GGUF file (`kind`), one prompt after another."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.answering import apart, longest, prompts
from benchmarks.child import Missing, Task, run

SMOLLM2 = ("llama", 49152)
SCRIPT = Path(__file__).with_suffix(".mjs")


def answer(task: Task) -> dict[str, Any]:
    package = task.scratch / "node_modules" / "node-llama-cpp" / "dist" / "index.js"
    node = shutil.which("node")
    if node is None or not package.is_file():
        raise Missing("node-llama-cpp is not installed: make bench-peers")
    wanted = prompts(task)
    given = {
        "package": package.resolve().as_uri(),
        "model": str(_weights(task).resolve()),
        "threads": int(os.environ.get("BENCH_THREADS", "1")),
        "tokens": longest(task),
        "prompts": list(wanted.values()),
    }
    ran = subprocess.run([node, str(SCRIPT)], input=json.dumps(given), stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(ran.stdout.splitlines()[-1])
    answers = dict(zip(wanted, result["answers"], strict=True))
    return apart(result["seconds"], answers) | {"peak_mib": result["peak_mib"]}


def _weights(task: Task) -> Path:
    from benchmarks import gguf_file
    from heedful.catalogue import SMOLLM2_WHEEL, wheel_file

    folder, kind, like = Path(task.workload.model), task.settings["kind"], wheel_file(SMOLLM2_WHEEL)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if like is None or (config["model_type"], config["vocab_size"]) != SMOLLM2:
        raise Missing("only SmolLM2's weights are written as GGUF here")
    return gguf_file.write(folder, like, kind, folder.with_name(f"{folder.parent.name}-{kind}.gguf"))


if __name__ == "__main__":
    run(answer)
