"""Real processes without the wait: each is forked from one that has imported the libraries and done nothing else.

A start of Python costs five seconds of imports, which the tests that need a process would pay some thirty times.
`test_cli.py` starts some the way a user does.
"""

from __future__ import annotations

import gc
import io
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["heedful.pipeline", "heedful.commands.speaking", "heedful.serve.app", "peft"])


class Process:
    """A function at work in a process of its own."""

    def __init__(
        self,
        home: Path,
        function: Callable[..., object],
        *arguments: Any,
        environment: Mapping[str, str] | None = None,
        said: str = "",
        folder: Path | None = None,
    ) -> None:
        """What it says goes to files in `home`, where it works too unless another `folder` is given."""
        number = len(list(home.glob("*.in")))
        self.out, self.err = home / f"{number}.out", home / f"{number}.err"
        (home / f"{number}.in").write_text(said, encoding="utf-8")
        files = [str(home / f"{number}.in"), str(self.out), str(self.err)]
        variables = {**os.environ, **(environment or {})}
        work = files, str(folder or home), variables, function, arguments
        self._process = _SERVER.Process(target=_work, args=work, daemon=True)  # pytest does not wait for it
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, if it ended."""
        return self._process.exitcode

    def wait(self, seconds: float = 280) -> int:
        """Wait for its end; give the exit code."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, "it did not end"
        return self._process.exitcode

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    @property
    def stdout(self) -> str:
        return self.out.read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        return self.err.read_text(encoding="utf-8")

    def lines(self, count: int, seconds: float = 60) -> list[str]:
        """Wait for so many lines on stderr."""
        until = time.monotonic() + seconds
        while not (self.err.exists() and self.stderr.count("\n") >= count):
            assert self.poll() is None and time.monotonic() < until, self.stderr
            time.sleep(0.01)
        return self.stderr.splitlines()[:count]


def heedful(home: Path, *arguments: object, **options: Any) -> Process:
    """Start the command line in a folder."""
    return Process(home, run_heedful, [*map(str, arguments)], **options)


def run_module(command: Sequence[str], env: Mapping[str, str], **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Do what subprocess.run does for [python, -m, module, ...], as far as the benchmarks ask for it."""
    with tempfile.TemporaryDirectory() as home:
        process = Process(Path(home), _module, [*command[2:]], environment=env, folder=Path.cwd())
        code = process.wait(options.get("timeout", 280))
        (options.get("stderr") or sys.stderr).write(process.stderr)
        assert not (code and options.get("check")), process.stderr
        return subprocess.CompletedProcess(command, code, process.stdout.encode())


def _module(words: list[str]) -> None:
    sys.argv = words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def run_heedful(arguments: list[str]) -> None:
    """Be the command line."""
    from heedful.cli import main

    sys.argv = ["heedful", *arguments]
    main()


def _work(
    files: list[str], home: str, variables: dict[str, str], function: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    """Be as a process is that was just started."""
    gc.freeze()  # what was imported stays
    modes = os.O_RDONLY, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for descriptor, (file, mode) in enumerate(zip(files, modes, strict=True)):
        os.dup2(os.open(file, mode), descriptor)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding="utf-8")
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(home)
    function(*arguments)
