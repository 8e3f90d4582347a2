"""Memory is what the machine has and its control group allows; version 1 and 2 of control groups are read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from heedful.system import machine

MIB = 2**20


@pytest.mark.parametrize(
    ("asked", "spins"), [({}, 10_000), ({"GOMP_SPINCOUNT": "77"}, 77), ({"OMP_WAIT_POLICY": "PASSIVE"}, 0)]
)
def test_threads_that_wait_for_long_go_to_sleep_unless_the_user_says_otherwise(
    asked: dict[str, str], spins: int
) -> None:
    """Where another program has a core, threads that wait busily take the other from those they wait for."""
    environment = {name: value for name, value in os.environ.items() if "SPIN" not in name} | asked
    environment["OMP_DISPLAY_ENV"] = "VERBOSE"
    script = [sys.executable, "-c", "import heedful, torch"]
    said = subprocess.run(script, capture_output=True, text=True, check=True, env=environment).stderr
    assert f"GOMP_SPINCOUNT = '{spins}'" in said


@pytest.mark.parametrize(
    ("files", "limit", "free"),
    [
        ({}, None, 900 * MIB),
        ({"memory.max": "max", "memory.current": "5", "memory.stat": ""}, None, 900 * MIB),
        (
            {
                "memory.max": str(64 * MIB),
                "memory.current": str(40 * MIB),
                "memory.stat": f"inactive_file {10 * MIB}\n",
            },
            64 * MIB,
            34 * MIB,
        ),
        (
            {
                "memory/memory.limit_in_bytes": str(32 * MIB),
                "memory/memory.usage_in_bytes": str(40 * MIB),
                "memory/memory.stat": f"total_inactive_file 0\ninactive_file {MIB}\n",
            },
            32 * MIB,
            0,
        ),
    ],
)
def test_memory_is_no_more_than_the_control_group_allows(
    tmp_path: Path, files: dict[str, str], limit: int | None, free: int
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: {1000 * 1024} kB\nMemAvailable: {900 * 1024} kB\n")
    assert machine.memory(tmp_path) == (limit or machine.memory(tmp_path / "none"))
    assert machine.free_memory(tmp_path, meminfo) == free


def test_all_memory_counts_as_free_where_the_system_does_not_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS has no /proc, nor a number of free pages."""
    known = os.sysconf

    def sysconf(name: str) -> int:
        if name == "SC_AVPHYS_PAGES":
            raise ValueError("unrecognized configuration name")
        return known(name)

    monkeypatch.setattr(os, "sysconf", sysconf)
    assert machine.free_memory(tmp_path, tmp_path / "meminfo") == machine.memory(tmp_path)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
    ],
)
def test_cores_are_no_more_than_the_control_group_gives_time_for(
    tmp_path: Path, files: dict[str, str], cores: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(64)), raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine.cores(tmp_path) == (cores or 64)


@pytest.mark.parametrize(("emulated", "width"), [(float("inf"), 8), (0.0, 64)])
def test_large_products_are_left_out_where_small_ones_are_very_slow(
    monkeypatch: pytest.MonkeyPatch, emulated: float, width: int
) -> None:
    """In bf16 they would take minutes where the processor has none."""
    monkeypatch.setattr(machine, "EMULATED", emulated)
    widths: list[int] = []
    monkeypatch.setattr("torch.mm", lambda a, b: widths.append(len(a)))
    assert machine.matmul_rate("bf16", (64, 64, 4096)) > 0
    assert max(widths) == width
