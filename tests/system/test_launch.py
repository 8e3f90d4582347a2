"""Whoever starts heedful with the variables of several processes hears in one sentence what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.processes import heedful
from tests.train.launcher import Launcher
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from heedful.cli import VERBS, main
from heedful.system.launch import launched
from heedful.train.ranks import single_rank

WHOLE = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two is not a number from 1 to"),
        ({"RANK": None}, "RANK is not set"),
        ({"RANK": ""}, "RANK is empty"),
        ({"RANK": "2"}, "RANK=2 is not a number from 0 to 1"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR is not set"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT=http is not a number from 1 to 65535"),
    ],
)
def test_a_wrong_variable_is_named(
    wrong: dict[str, str | None],
    what: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in (WHOLE | wrong).items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as left:
        main(["train", "rows.json", "--out", str(tmp_path / "run")])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert said.count("heedful: ") == 1 and what in said
    assert "Start them with torchrun, or unset WORLD_SIZE." in said


def test_one_process_is_alone_whatever_else_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun may start a single process, and a shell may hold what it once set."""
    for name, value in {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert launched() is None
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.delenv("RANK")
    with single_rank().local_leader_first():
        pass


@pytest.mark.parametrize("count", ["", "01"])
def test_one_process_may_do_anything(
    count: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", count)
    assert launched() is None
    with pytest.raises(SystemExit) as left:
        main(["models", "--json"])
    assert not left.value.code, capsys.readouterr().err


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (WHOLE | {"LOCAL_WORLD_SIZE": ""}).items():
        monkeypatch.setenv(name, value)
    launch = launched()
    assert launch is not None and launch.local_count == 1


def test_a_port_that_is_taken_is_told_as_that(tmp_path: Path) -> None:
    holder = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    started = heedful(tmp_path, "train", "rows.json", environment=WHOLE | {"MASTER_PORT": str(holder.port)})
    assert started.wait() == 1
    assert started.stderr.count("heedful: ") == 1
    assert f"heedful: Rank 0 could not meet the others at 127.0.0.1:{holder.port}: " in started.stderr
    assert "address already in use" in started.stderr


@pytest.mark.parametrize("verb", sorted(verb.__name__ for verb in VERBS if verb.__name__ != "train"))
def test_only_train_runs_on_several_ranks(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in WHOLE.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as left:
        main([verb])
    assert left.value.code == 2
    assert "Only `heedful train` runs as several processes, but WORLD_SIZE=2." in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_any_rank_is_shown_help(flag: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as left:
        main(["serve", flag])
    assert not left.value.code
    assert "Serve a run or a model" in capsys.readouterr().out


def test_a_shell_that_holds_what_torchrun_set_hears_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (WHOLE | {"RANK": "1", "LOCAL_RANK": "1"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as left:
        main(["chat"])
    assert left.value.code == 2
    assert "unset WORLD_SIZE" in capsys.readouterr().err


def test_what_no_rank_can_do_is_said_once(tmp_path: Path) -> None:
    ranks = Launcher().start(tmp_path, main, ["sweep", "rows.json", "--vary", "train.lr=1,2"])
    assert [rank.wait() for rank in ranks] == [2, 2]
    assert sum(rank.stderr.count("heedful: ") for rank in ranks) == 1
