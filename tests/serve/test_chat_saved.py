"""What /save keeps of a chat in the terminal."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from tests.serve.terminal import Scripted

from heedful.errors import ModelError


def test_save_appends_lines_that_train_reads(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "talks with spaces.jsonl"
    said = run(Scripted(["Ünï\x1b[31m"], ["4"]), f"a\n/save {file}\nb\n/save {file}\n", system="S")
    first, second = [json.loads(line)["messages"] for line in file.read_text("utf-8").splitlines()]
    assert first == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "Ünï\x1b[31m"},
    ]
    assert [message["role"] for message in second] == ["system", "user", "assistant", "user", "assistant"]
    assert said.notes == f"Saved to {file}.\n" * 2


@pytest.mark.parametrize(("before", "lines"), [(b"", 1), (b'{"a": 1}', 2), (b'{"a": 1}\n', 2), ("é".encode(), 2)])
def test_save_begins_a_line_of_its_own(run, tmp_path: Path, before: bytes, lines: int) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "talks.jsonl"
    file.write_bytes(before)
    run(Scripted(["1"]), f"a\n/save {file}\n")
    content = file.read_bytes()
    assert content.startswith(before) and len(content.splitlines()) == content.count(b"\n") == lines
    assert json.loads(content.splitlines()[-1]).keys() == {"messages"}


@pytest.mark.parametrize(
    ("finish", "cut"),
    [("length", ["half"]), ("stop", ["half", KeyboardInterrupt()]), ("stop", ["half", ModelError("Broken.")])],
)
def test_answers_that_were_cut_off_are_saved_but_not_learned(run, tmp_path: Path, finish: Any, cut: Any) -> None:  # type: ignore[no-untyped-def]
    engine = Scripted(cut, cut[:1])
    engine.finish = finish
    said = run(engine, f"a\n/save {tmp_path}/x\nb\n/save {tmp_path}/x\n")
    assert "no complete answer to learn from yet" in said.notes
    if finish == "stop":
        (line,) = (tmp_path / "x").read_text("utf-8").splitlines()
        assert [message.get("weight") for message in json.loads(line)["messages"]] == [None, 0, None, None]


@pytest.mark.parametrize("file", ["\0", "~nobody-of-this-name/x", "/"])
def test_a_name_that_cannot_be_saved_to_is_a_sentence(run, file: str) -> None:  # type: ignore[no-untyped-def]
    said = run(Scripted(["a"], ["b"]), f"x\n/save {file}\ny\n")
    assert said.out == "a\nb\n" and "Cannot write" in said.notes


def test_save_says_what_is_missing(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    said = run(Scripted(["1"]), f"/save x\na\n/save\n/save {tmp_path}/none/x\n")
    assert said.notes.splitlines() == [
        "There is no conversation yet.",
        "Say where: /save FILE.",
        f"Cannot write {tmp_path}/none/x: No such file or directory.",
    ]


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_bytes_that_are_no_utf8_do_no_harm(run, tmp_path: Path, errors: str) -> None:  # type: ignore[no-untyped-def]
    engine = Scripted(["1"])
    lines = io.BytesIO(b"caf\xe9\n/save %s/x.jsonl\n" % str(tmp_path).encode())
    run(engine, io.TextIOWrapper(lines, "utf-8", errors))
    assert engine.asked == [[("user", "caf\ufffd")]]
    assert "caf\ufffd" in (tmp_path / "x.jsonl").read_text("utf-8")
