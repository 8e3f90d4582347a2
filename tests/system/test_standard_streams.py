"""Streams that are closed, or do not know every character; and Ctrl-C while the program is only just starting."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from heedful.cli import main

Capsys = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        ("$ models >&-", 1, "heedful: stdout: it is closed, so the result is lost.\n"),
        ("$ --help >&-", 1, "heedful: stdout: it is closed, so the result is lost.\n"),
        ("$ models --json >/dev/full", 1, "heedful: The system: No space left on device.\n"),
        ("$ check nope.json 2>&-", 3, ""),
        ("$ check nope.json 2>/dev/full", 3, ""),
        ("$ chek 2>/dev/full", 2, ""),
        ("$ check --out /dev/stdout", 2, "heedful: /dev/stdout exists and is not a receipt. Choose another --out.\n"),
        ("$ models <&- >/dev/null", 0, ""),
    ],
)
def test_a_closed_stream_is_told_of_where_it_matters(line: str, code: int, told: str, tmp_path: Path) -> None:
    line = line.replace("$", f"{sys.executable} -m heedful")
    done = subprocess.run(line, shell=True, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.returncode, done.stderr) == (code, told)


FAILING = """
from heedful import cli
from heedful.errors import RunError
def verb(arguments):
    print("what it found")
    raise {end}
cli.app = verb
cli.main([])
"""


@pytest.mark.parametrize("lost", ["a pipe", "a disk", "a full pipe"])
@pytest.mark.parametrize(
    ("end", "code", "told"),
    [("RunError('It broke.')", 1, "heedful: It broke.\n"), ("SystemExit(3)", 3, ""), ("SystemExit(0)", None, None)],
)
def test_an_error_is_told_before_that_nobody_reads(end: str, code: int | None, told: str | None, lost: str) -> None:
    reader, writer = os.pipe() if lost == "a pipe" else (os.open(os.devnull, 0), os.open("/dev/full", os.O_WRONLY))
    os.close(reader)
    line = [sys.executable, "-c", FAILING.format(end=end)]
    held = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}  # else print raises itself
    done = subprocess.run(line, stdout=writer, stderr=subprocess.PIPE, text=True, env=held)
    os.close(writer)
    lonely = (0, "") if lost == "a pipe" else (1, "heedful: The system: No space left on device.\n")
    assert (done.returncode, done.stderr) == (lonely if told is None else (code, told))


TABLE = """
from heedful import cli
from heedful.report.console import out
def verb(arguments):
    for row in range(9999):
        out.print(row)
cli.app = verb
cli.main([])
"""


def test_a_reader_that_leaves_is_no_failure() -> None:
    """As `head` does, in the middle of a table."""
    with subprocess.Popen([sys.executable, "-c", TABLE], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (0, b"")


def test_the_help_may_be_left_in_the_middle() -> None:
    """As by `heedful train --help | head -1`, which writes more than a pipe's reader takes."""
    reader, writer = os.pipe()
    os.close(reader)
    line = [sys.executable, "-m", "heedful", "train", "--help"]
    done = subprocess.run(line, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("end", "code", "last"),
    [("UsageError('No.')", 2, "heedful: No."), ("DataError('No.')", 3, "heedful: No."),
     ("KeyboardInterrupt", 130, "heedful: Interrupted.")],
)  # fmt: skip
def test_a_traceback_changes_no_exit_code(end: str, code: int, last: str) -> None:
    script = f"from heedful import cli\nfrom heedful.errors import *\ndef verb(_): raise {end}\n"
    script += "cli.app = verb\ncli.main(['--debug'])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (code, last)
    assert done.stderr.startswith("Traceback")


WATCHED = """
from heedful import cli
from heedful.system import streams
from heedful.report import screen
from heedful.report.console import err
from heedful.serve.chat import Talk
def verb(arguments):
    {first}
    for step in range(3):
        err.print(step)
    print("the result")
    screen.problem("and an error")
cli.app = verb
cli.main([])
"""


@pytest.mark.parametrize("lost", ["a pipe", "a disk", "a full pipe"])
@pytest.mark.parametrize("first", ["streams.tell('once')", "Talk(None, None).say('a note')", "pass"])
def test_work_goes_on_when_nobody_watches_any_more(first: str, lost: str) -> None:
    """As with `2>&1 >result | head`: results are lost with their reader, progress is not missed. Nor is it waited for
    where that is not wanted."""
    reader, writer = (os.open(os.devnull, 0), os.open("/dev/full", os.O_WRONLY)) if lost == "a disk" else os.pipe()
    if lost == "a full pipe":
        os.set_blocking(writer, False)
        os.write(writer, b" " * 2**20)
    else:
        os.close(reader)
    line = [sys.executable, "-c", WATCHED.format(first=first)]
    done = subprocess.run(line, stdout=subprocess.PIPE, stderr=writer, text=True)
    os.close(writer)
    if lost == "a full pipe":
        os.close(reader)
    assert (done.returncode, done.stdout) == (0, "the result\n")


def test_a_closed_stdin_has_nothing_to_say(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SystemExit) as end:
        main(["chat", str(tiny_folder)])
    assert (end.value.code, capsys.readouterr()) == (0, ("", ""))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_no_encoding_ends_a_verb(
    encoding: str, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"instruction": "Wie heißt 北京 auf Deutsch?", "output": "Peking 🙂"}
    (tmp_path / "北.json").write_text(json.dumps([row] * 3))
    written = []
    for asked in (["--show", "1"], ["--json"]):
        stdout = io.TextIOWrapper(io.BytesIO(), encoding)
        monkeypatch.setattr(sys, "stdout", stdout)
        with pytest.raises(SystemExit) as end:
            main(
                [
                    "check",
                    str(tmp_path / "北.json"),
                    "--model",
                    str(tiny_folder),
                    "--set",
                    "data.split=in_order",
                    *asked,
                ]
            )
        assert end.value.code == 0
        written.append(stdout.buffer.getvalue().decode(encoding))  # type: ignore[attr-defined]
    assert "\\u5317\\u4eac" in written[0]
    assert json.loads(written[1])["data"]["path"].endswith("北.json")


def test_an_interruption_at_any_moment_is_one_word(tmp_path: Path) -> None:
    """From the first import on, through those of the libraries."""
    script = "import sys, heedful.__main__ as m; print('on', flush=True); sys.argv[1:] = ['doctor']; m.main()"
    for seconds in (0.1, 0.4, 1.2):
        line = [sys.executable, "-c", script]
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(seconds)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=60)
        assert (process.returncode, told) == (130, "heedful: Interrupted.\n"), seconds


def test_what_tells_of_an_interruption_does_not_need_what_it_may_have_broken_off() -> None:
    """A library that Ctrl-C left half imported cannot be imported again."""
    code = "import sys, heedful.report.screen; sys.exit('yaml' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
