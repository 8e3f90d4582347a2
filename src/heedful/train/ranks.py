"""The processes that train one model together: which one this is, what they tell each other, who speaks for all.

Rank 0 leads: it alone writes, reads checkpoints and shows progress. Whatever decides what happens next (a signal, a
loss, where a run goes on) is told to all, so that every rank takes the same way.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate.state import PartialState
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]
from torch.distributed.tensor import DTensor, distribute_tensor

from heedful.config import TrainConfig
from heedful.errors import Follow, RunError, UsageError, reason_of
from heedful.system import machine
from heedful.system.launch import Launch, launched
from heedful.train import gpu, signals

PATIENCE = timedelta(days=1)  # for a rank that prepares data or writes the model; one that ended is noticed at once
ROLL_CALL = 20.0  # seconds in which the living answer; torchrun ends them 30 seconds after the first failure
INTERRUPTED = 128 + signal.SIGINT  # the exit code of a rank that Ctrl-C ended
BUCKET = 2**23  # numbers of gradients that are added up in one go
MEETINGS = itertools.count()  # of this process with others: a program may train several times
Tensors = dict[str, torch.Tensor]
Told = TypeVar("Told")


@dataclass(frozen=True)
class Ranks:
    """This process among all: its number, how many there are, its device, and the store that they share."""

    rank: int
    count: int
    device: torch.device
    board: Store | None = None  # where the first rank to fail leaves its exit code, and the living answer the roll call
    attempt: int = 0  # how often torchrun started the ranks again
    attempts: Store | None = None  # what outlives an attempt, where torchrun itself hosts the store

    @property
    def is_leader(self) -> bool:
        return self.rank == 0

    def broadcast(self, find: Callable[[], Told]) -> Told:
        """Let the leader find out something that JSON can say, and give it to every rank.

        On several ranks tuples arrive as lists, and keys as text.
        """
        if self.count == 1:
            return find()
        text = json.dumps(find()).encode() if self.is_leader else b""
        size = torch.tensor([len(text)], device=self.device)
        dist.broadcast(size, 0)
        letters = torch.tensor(list(text), dtype=torch.uint8, device=self.device)
        letters = letters if self.is_leader else torch.empty(int(size), dtype=torch.uint8, device=self.device)
        dist.broadcast(letters, 0)
        told: Told = json.loads(bytes(letters.tolist()))
        return told

    def all_reduce_sum(self, *numbers: float) -> list[float]:
        """Add up numbers over the ranks."""
        return self._reduced(numbers, dist.ReduceOp.SUM)

    def all_reduce_max(self, number: int) -> int:
        """Return the greatest of the ranks' numbers."""
        return int(self._reduced([number], dist.ReduceOp.MAX)[0])

    def free_memory(self) -> int:
        """Return the bytes that every rank can have: the least of their devices', or of their machines' shares."""
        if self.device.type == "cuda":
            free = gpu.free_memory(self.device)
        else:
            launch = launched()
            free = machine.free_memory() // (launch.local_count if launch else 1)
        return -self.all_reduce_max(-free)

    def note_begun(self, folder: Path) -> None:
        """Note that a run's folder is this launch's own, for when torchrun starts the ranks again."""
        if self.attempts is not None:
            self.attempts.set(os.path.realpath(folder), "")

    def has_begun(self, folder: Path) -> bool:
        """Say whether an earlier attempt of this launch began a folder's run; where nothing tells, any attempt did."""
        return self.attempt > 0 and (self.attempts is None or self.attempts.check([os.path.realpath(folder)]))

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.all_reduce_sum(0)

    @contextmanager
    def local_leader_first(self) -> Iterator[None]:
        """Let the first rank of each machine go first: the others find in the cache what it made."""
        with PartialState().local_main_process_first() if self.count > 1 else nullcontext():
            yield

    def all_reduce_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors, the same on every rank but for their numbers, by their sums over the ranks, in fp32."""
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1).float() for tensor in bucket])
            dist.all_reduce(flat)
            for tensor, part in zip(bucket, torch.split(flat, [t.numel() for t in bucket]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def scatter_into(self, target: torch.Tensor, value: torch.Tensor | None) -> None:
        """Give every rank the leader's value, or its shard of it; None leaves the target as the leader has it."""
        if isinstance(target, DTensor):
            whole = torch.zeros(target.shape, device=self.device)
            if self.is_leader and value is not None:
                whole.copy_(value)
            target.copy_(distribute_tensor(whole, target.device_mesh, target.placements))
            return
        if value is not None:
            target.copy_(value)
        if self.count > 1:
            dist.broadcast(target, 0)

    def gather(self, tensors: Tensors) -> Tensors:
        """Give the leader all tensors, gathered from their shards one at a time; the others get none."""
        whole = {}
        for name, tensor in tensors.items():
            full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            if self.is_leader:
                whole[name] = full.cpu() if isinstance(tensor, DTensor) else full
        return whole

    def check(self, config: TrainConfig) -> None:
        """Refuse what cannot be trained on so many ranks."""
        if config.sharding == "full" and self.count == 1:
            raise UsageError(
                "train.sharding=full shares the weights out over several ranks, but this is a single process.",
                "Start it with `torchrun --nproc_per_node 2 -m heedful train ...`, or leave train.sharding at none.",
            )
        if self.count > config.batch_size:
            raise UsageError(
                f"{self.count} ranks are more than the {config.batch_size} rows of an update: some would have no work.",
                "Raise train.batch_size, or start fewer ranks.",
            )

    def check_rows(self, rows: int) -> None:
        """Refuse a data set that has no row for each rank."""
        if self.count > rows:
            raise UsageError(f"{self.count} ranks are more than the {rows} training rows.", "Start fewer ranks.")

    def _reduced(self, numbers: Sequence[float], how: Any) -> list[float]:
        if self.count == 1:
            return list(numbers)
        tensor = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor, how)
        return tensor.tolist()

    def _missing(self) -> list[int]:
        """Call the roll: give the ranks that do not answer. Who still computes comes to it at its next exchange."""
        assert self.board is not None
        self.board.set(f"here/{self.rank}", "")
        missing, until = [rank for rank in range(self.count) if rank != self.rank], time.monotonic() + ROLL_CALL
        while len(missing) > 1 and time.monotonic() < until:  # one at least is gone, so the last need not be waited for
            time.sleep(0.1)
            missing = [rank for rank in missing if not self.board.check([f"here/{rank}"])]
        return missing

    def _spoken_for(self, error: BaseException) -> BaseException:
        """Return the error that this rank ends with: the first to fail says why, the others follow without a word."""
        assert self.board is not None
        try:
            if _is_parted(error) and not self.board.check(["failed"]):
                error = self._lost(", ".join(f"rank {rank}" for rank in self._missing()))
            mine = (
                f"{self.rank} {INTERRUPTED if isinstance(error, KeyboardInterrupt) else getattr(error, 'exit_code', 1)}"
            )
            first = self.board.compare_set("failed", "", mine).decode()
        except dist.DistError:  # the board is gone, and nobody left to ask
            return self._lost("the process that keeps the ranks' store") if _is_parted(error) else error
        return error if first == mine else Follow(int(first.split()[1]))

    def _lost(self, what: str) -> RunError:
        return RunError(
            f"Rank {self.rank} lost {what}: it was killed, or its machine is gone.",
            "`torchrun --max-restarts N` starts them again; `heedful train --resume` continues a run that had begun.",
        )


def single_rank() -> Ranks:
    """Return the only process of a training."""
    return Ranks(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """Join the processes that torchrun started; without torchrun, a single process. Only the first rank to fail reports
    the error."""
    launch = launched()
    if launch is None:
        yield single_rank()
        return
    ranks = _join(launch)
    try:
        yield ranks
        ranks.barrier()
    except (Exception, KeyboardInterrupt) as error:
        with signals.ignored():
            raise ranks._spoken_for(error) from error
    finally:
        dist.destroy_process_group()
        PartialState._reset_state()


def _join(launch: Launch) -> Ranks:
    """Meet the other ranks, at a board of this attempt's own: an earlier one left its addresses on torchrun's."""
    rank, count = launch.rank, launch.count
    hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # by torchrun, beyond this attempt
    attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or "0")
    on_gpu = torch.cuda.is_available()
    try:
        store = _store(launch.host, launch.port, count, rank == 0 and not hosted)
        board = PrefixStore(f"heedful/{attempt}/{next(MEETINGS)}", store)
        dist.init_process_group(
            "nccl" if on_gpu else "gloo", store=board, rank=rank, world_size=count, timeout=PATIENCE
        )
        attempts = PrefixStore("heedful/begun", store) if hosted else None
        ranks = Ranks(rank, count, PartialState(cpu=not on_gpu).device, board, attempt, attempts)
        ranks.barrier()  # one that leaves at once, as for settings that it refuses, would leave others half connected
    except RuntimeError as error:
        if not _is_parted(error):
            raise
        met = f"Rank {rank} could not meet the others at {launch.host}:{launch.port}"
        raise RunError(f"{met}: {reason_of(error)}.", "Start all ranks together, at a free port.") from error
    return ranks


@functools.cache  # a program may train several times: another store at the same port would meet the end of this one
def _store(host: str, port: int, count: int, hosts: bool) -> Store:
    return TCPStore(host, port, count, hosts)


def shard(model: torch.nn.Module, blocks: set[str], ranks: Ranks, dtype: torch.dtype) -> None:
    """Leave each rank a share of every weight (FSDP2); a block's weights are whole while it computes, in `dtype`."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(ranks.device.type, (ranks.count,))
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    for module in [module for module in model.modules() if type(module).__name__ in blocks]:
        fully_shard(module, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=True)


def _buckets(tensors: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Cut a sequence of tensors into runs of at most BUCKET numbers, or of one tensor."""
    bucket: list[torch.Tensor] = []
    for tensor in tensors:
        if bucket and sum(t.numel() for t in bucket) + tensor.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def _is_parted(error: BaseException) -> bool:
    """Say whether an error is a broken exchange between ranks; gloo has no type for it."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
