"""Ranks started as torchrun does, but forked: for test_ranks.py."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from tests.processes import Process
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from heedful import training
from heedful.cli import main
from heedful.errors import Follow, UsageError


class Launcher:
    """Starts two processes, also again after they failed; hosts the store where they meet, or leaves that to rank 0."""

    def __init__(self, hosts: bool = True) -> None:
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.hosts, self.attempt = hosts, 0

    def start(self, home: Path, function: Callable[..., object], *arguments: object) -> list[Process]:
        shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        port = self.store.port if self.hosts else free_port()
        shared |= {"MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": str(self.hosts)}
        shared |= {"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": str(self.attempt)}
        self.attempt += 1
        each = [shared | {"RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
        return [Process(home, function, *arguments, environment=variables) for variables in each]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def run_all(lines: list[list[str]]) -> None:
    """Run one command after the other, up to one that fails."""
    for words in lines:
        try:
            main(words)
        except SystemExit as end:
            if end.code:
                raise


def run_with_endless_data(words: list[str]) -> None:
    """Run a training that never has its data; a file shows that it begins to prepare them."""

    def prepare(*_: object) -> None:
        Path("prepares").touch()
        time.sleep(1000)

    training.prepare_data = prepare  # type: ignore[assignment]
    main(words)


def train_after_a_refusal(rows: Path, model: Path, out: Path, settings: dict[str, object]) -> None:
    """Be a program whose first training is refused, on one rank in words, and whose second is long."""
    try:
        training.train(rows, model=model, settings=settings | {"train.batch_size": 1}, out=out)
    except (UsageError, Follow):
        training.train(rows, model=model, settings=settings, out=out)


def run_to_the_last_signal(words: list[str]) -> None:
    """Run a command that fails, and send its process what torchrun sends to a rank that is not gone yet."""
    try:
        main(words)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
