"""Several trainings in one process, or in each of several ranks, for test_ranks.py and test_kill.py.

Its argument is a file of trainings: {"name", "arguments" of heedful, and if need be "out": another name for the folder,
"start": a run to copy first, "bf16": pretend that the processor has it, "memory": the nodes of a forward above which
rank 1 has no memory left}.
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch

from heedful import training
from heedful.cli import main
from heedful.train import learner, precision

whole, native_bf16, weights = learner.prediction_nll, precision.native_bf16, learner.Learner.weights


def perform(training: dict[str, Any], home: Path) -> None:
    """Train once; the exit code goes into a file, and what is said is marked with the training's name."""
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if rank == 0 and "start" in training:
        shutil.copytree(home / training["start"], home / training["name"])
    for stream in (sys.stdout, sys.stderr):
        print(f"\n== {training['name']}", file=stream, flush=True)

    def sometimes(model: Any, batch: Any) -> torch.Tensor:
        if rank == 1 and torch.is_grad_enabled() and batch.input_ids.numel() > training["memory"]:
            raise MemoryError
        return whole(model, batch)

    def told(self: learner.Learner) -> dict[str, torch.Tensor]:
        """Keep a hash of this rank's own masters whenever the leader's are asked for."""
        masters = b"" if self.sharded else b"".join(m.numpy().tobytes() for m in self.optimizer.masters.values())
        with open(home / f"{training['name']}.{rank}.masters", "a") as file:
            file.write(hashlib.sha256(masters).hexdigest() + "\n")
        return weights(self)

    learner.Learner.weights = told  # type: ignore[method-assign]
    learner.prediction_nll = sometimes if "memory" in training else whole
    precision.native_bf16 = (lambda: True) if training.get("bf16") else native_bf16
    code: Any = 0
    try:
        main([*training["arguments"], "--out", str(home / training.get("out", training["name"]))])
    except SystemExit as left:
        code = left.code or 0
    sys.stderr.flush()
    (home / f"{training['name']}.{rank}.exit").write_text(str(code))
    # What a slower rank says belongs to this training; one that waits for a rank that failed hears of it by its end.
    until = time.monotonic() + (60 if code != 1 else 0)
    while len(list(home.glob(f"{training['name']}.*.exit"))) < ranks and time.monotonic() < until:
        time.sleep(0.01)


def perform_all(plan: Path) -> None:
    faulthandler.dump_traceback_later(240, exit=True)  # ranks that wait for each other say where
    torch.set_num_threads(1)
    # Pictures and pages take longer than these trainings do, and have tests of their own.
    training.loss_plot = training.write_pages = lambda *arguments: None
    for one in json.loads(plan.read_text()):
        perform(one, plan.parent)
