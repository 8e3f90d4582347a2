"""No contestant, a limit: the time of an update's matrix products at the rate that this machine multiplies at."""

from __future__ import annotations

from typing import Any

from benchmarks import heedful_api
from benchmarks.child import Task, run


def floor(task: Task) -> dict[str, Any]:
    """Count what the tree of each measured update multiplies, and divide it by the rate measured here and now."""
    rate = heedful_api.matmul_rate(task.settings["precision"])
    flops = [heedful_api.flops(task.workload, step) for step in range(task.warm_up, task.units)]
    return {"seconds": [each / rate for each in flops], "gflops": [each / 1e9 for each in flops], "rate": rate / 1e9}


if __name__ == "__main__":
    run(floor)
