"""What this machine offers, read from the system or measured. torch is imported where it is measured with."""

from __future__ import annotations

import math
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

CGROUPS = (  # (limit, usage) of version 2 and version 1, as seen from inside
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)
REPEATS = 5
EMULATED = 5e9  # FLOP/s: slower products are done number by number, and large ones would take minutes
SQUARE = (2048, 2048, 2048)
STEP = (384, 576, 1536)  # nodes x hidden x intermediate: a layer's product in a step of a model of 135M parameters
STREAMED = 2**28  # bytes: more than any cache holds

Shape = tuple[int, int, int]


def cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Count the cores that this process may use; a share of one counts as one."""
    return min([allowed_cores(), *(max(1, math.ceil(quota)) for quota in _quotas(cgroup))])


def limit_threads_to_quota() -> None:
    """Let libraries that are loaded later start no more threads than this process has cores' worth of time for.

    They see which cores they may use, but not for how much of the time.
    """
    if cores() < allowed_cores():
        os.environ.setdefault("OMP_NUM_THREADS", str(cores()))


def processor() -> str:
    """Name the processor."""
    return _cpuinfo("model name").strip() or platform.processor() or "unknown"


def gpus() -> list[str]:
    """Name the GPUs that torch sees."""
    import torch

    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def instructions() -> str:
    """List the processor's instruction sets: on virtual machines its name alone does not tell them."""
    return _cpuinfo("flags", "Features")


def _cpuinfo(*fields: str) -> str:
    """Return the first of these fields as /proc/cpuinfo has it, or "" where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2] for line in lines if line.startswith(fields)), "")


def memory(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes of memory there are: the machine's, or what its control group allows."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *(limit for limit, _ in _limits(cgroup))])


def free_memory(cgroup: Path = Path("/sys/fs/cgroup"), meminfo: Path = Path("/proc/meminfo")) -> int:
    """Return the bytes that can still be had: the least of what is available, and what the control group leaves.

    Where the system does not tell, as on macOS, all memory counts as available.
    """
    try:
        lines = dict(line.split(":") for line in meminfo.read_text(encoding="utf-8").splitlines())
        available = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        available = memory(cgroup)
    return min([available, *(max(0, limit - used) for limit, used in _limits(cgroup))])


def peak_memory() -> int:
    """Return the most bytes of memory that this process held at any time."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def matmul_rate(precision: Literal["fp32", "bf16"], shape: Shape = SQUARE) -> float:
    """Measure the processor's FLOP/s of products [m, k] x [k, n], the median of a few.

    If those are very slow, smaller ones are measured.
    """
    m, k, n = shape
    small = _product_rate(precision, (m // 8, k // 8, n // 8), 2**26)
    return small if small < EMULATED else _product_rate(precision, shape, 2**33)


def _product_rate(precision: Literal["fp32", "bf16"], shape: Shape, flops: int) -> float:
    import torch

    m, k, n = shape
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    a, b = torch.randn(m, k, dtype=dtype), torch.randn(k, n, dtype=dtype)
    times = max(1, round(flops / (2 * m * k * n)))  # small products many times, or the clock would be measured

    def work() -> None:
        for _ in range(times):
            torch.mm(a, b)

    return 2 * m * k * n * times / _median_seconds(work)


def bandwidth() -> float:
    """Measure the bytes/s of memory that a copy reads and writes."""
    import torch

    source = torch.ones(STREAMED // 4)
    target = torch.empty_like(source)
    return 2 * STREAMED / _median_seconds(lambda: target.copy_(source))


def _median_seconds(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(1 + REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])  # the first pays for pages and kernels


def allowed_cores() -> int:
    """Count the cores that this process may run on, whatever share of their time it is given."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quotas(cgroup: Path) -> list[float]:
    """List the cores' time, in cores, that control groups allow: of version 2, then of version 1."""
    found = []
    for names in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        try:
            time, period = " ".join((cgroup / name).read_text(encoding="utf-8") for name in names).split()
        except (OSError, ValueError):
            continue
        found += [int(time) / int(period)] if time not in ("max", "-1") else []
    return found


def _limits(cgroup: Path) -> list[tuple[int, int]]:
    """List (limit, usage) in bytes of the control groups that have a limit; what cached files use can be had again."""
    found = []
    for limit_name, usage_name in CGROUPS:
        try:
            limit = (cgroup / limit_name).read_text(encoding="utf-8").strip()
            usage = int((cgroup / usage_name).read_text(encoding="utf-8"))
            statistic = (cgroup / usage_name).with_name("memory.stat").read_text(encoding="utf-8")
        except (OSError, ValueError):
            continue
        numbers = dict(line.split(" ", 1) for line in statistic.splitlines())
        cached = int(numbers.get("total_inactive_file", numbers.get("inactive_file", 0)))
        if limit != "max":
            found.append((int(limit), usage - cached))
    return found
