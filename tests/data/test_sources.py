"""A path, an address or an id leads to rows, or to one sentence; arbitrary bytes to nothing worse."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.data.files import JSON, ROWS, refusal, values, write

from heedful.config import DataConfig
from heedful.data import load_splits, sources
from heedful.data.readers import READERS
from heedful.errors import DataError, HeedfulError


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path / "instructions.json", JSON)
    assert refusal(tmp_path / "instruction.json").endswith("Did you mean 'instructions.json'?")


def test_a_link_that_leads_nowhere_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone.json").symlink_to("there.json")
    (tmp_path / "loop.json").symlink_to("loop.json")
    (tmp_path / "org").mkdir()
    (tmp_path / "org/name").symlink_to("there")
    fix = "Mend the link, or give the file's own path."
    for name, to in (("gone.json", "there.json"), ("loop.json", "loop.json"), ("org/name", "there")):
        assert refusal(name) == f"{name} is a link to {to}, which leads nowhere. {fix}"


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows would be kept under the hash of what it was."""
    path, read = tmp_path / "rows.json", sources.read_rows
    write(path, JSON.replace("Say", "Grow"))  # rows that no other test has left in the cache

    def growing(*given: Any) -> Iterator[Any]:
        yield from read(*given)
        with open(path, "a") as file:
            file.write("\n")

    monkeypatch.setattr(sources, "read_rows", growing)
    assert refusal(path) == "rows.json changed while it was read. Try again when it is whole."
    monkeypatch.undo()
    assert len(load_splits(DataConfig(path=str(path)))[0].train)


def test_what_can_be_read_only_once_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    said = "cannot be read more than once, which heedful needs. Save the data as a file first."
    assert refusal(tmp_path / "pipe.json") == f"pipe.json, which is a pipe or a device, {said}"
    assert refusal("-") == f"What comes through a pipe {said}"
    assert refusal("/dev/null").endswith(said)


def test_an_empty_name_does_not_mean_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "train.json", JSON)
    assert refusal("") == refusal(" ") == "The name of the data is empty. Give a file, a folder, an address or builtin."


@pytest.mark.parametrize("path", ["", "\0", "x" * 5000 + ".json", "http://[::1", "builtin:fr", "~nobody-at-all/x.json"])
def test_an_impossible_path_is_a_data_error(path: str) -> None:
    assert refusal(path) and ".." not in refusal(path)


@pytest.mark.parametrize(("path", "rows"), [("builtin", 1000), ("builtin:zh", 150)])
def test_the_rows_that_ship_are_read(path: str, rows: int) -> None:
    assert len(values(path)) >= rows


def test_a_file_may_be_named_as_the_rows_that_ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "builtin-extra.json", JSON)
    assert values("builtin-extra.json") == ROWS


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
texts = st.sampled_from(["a", "", " ", "\ud83d", "é"]) | json_values
turns = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "root"]), "content": texts}))
rows = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("instruction", "input", "output", "system", "history", "prompt", "completion"), texts)
    | {"messages": turns | json_values, "conversations": turns | json_values, "response": texts},
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ending=st.sampled_from([*READERS, "json.gz"]), data=st.binary(max_size=60))
@example("json", b'[{"a": \x00}]')
@example("csv", b"\x0b")
@example("csv", b"a\r1")
def test_arbitrary_bytes_raise_nothing_but_data_errors(tmp_path: Path, ending: str, data: bytes) -> None:
    try:
        sources.read(str(write(tmp_path / f"d.{ending}", data)))
    except DataError as error:
        assert error.problem  # noqa: PT017


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.lists(rows | json_values, max_size=4), lines=st.booleans(), skip=st.booleans())
def test_arbitrary_json_is_accounted_for_or_refused(
    tmp_path: Path, content: list[object], lines: bool, skip: bool
) -> None:
    text = "\n".join(map(json.dumps, content)) if lines else json.dumps(content)
    path = write(tmp_path / ("d.jsonl" if lines else "d.json"), text)
    try:
        splits, receipt = load_splits(DataConfig(path=str(path), on_bad_row="skip" if skip else "error"))
    except HeedfulError as error:
        assert isinstance(error, DataError)  # noqa: PT017
    else:
        kept = [*splits.train, *splits.validation, *splits.test]
        assert receipt.read == len(kept) == len({conversation.id for conversation in kept})
