"""Of an address is shown and stored what names a file; a key in it is kept to read the data again, a password never."""

from __future__ import annotations

import functools
import http.server
import sys
import threading
from pathlib import Path

import pytest

import heedful
from heedful.address import names_user, redacted, scheme_of
from heedful.begin import resolve_run
from heedful.data import sources
from heedful.errors import DataError, UsageError
from heedful.evaluate.held_back import describe_rows
from heedful.provenance import provenance
from heedful.run import Run
from heedful.settings import load_config
from heedful.sweep import sweep
from heedful.system.atomic import read_json, write_json

SECRET = "HTTPS://h.example/a/d.json?token=hunter2"


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("https://h.example/d.json", "https://h.example/d.json"),
        ("https://u:p@h.example:80/d.json?token=x&y#part", "https://h.example:80/d.json?..."),
        ("http://u@h/?a b", "http://h/?..."),
        ("http://u:a?b@h/d.json", "http://u:a?..."),
        ("--data=HTTP://h/d.json?t", "--data=HTTP://h/d.json?..."),
        ("a?b/c@d.json", "a?b/c@d.json"),
        ("https://h.example/@me/d.json", "https://h.example/@me/d.json"),
    ],
)
def test_what_may_be_secret_is_not_shown(text: str, bare: str) -> None:
    assert redacted(text) == bare


def test_an_address_is_told_from_a_path() -> None:
    assert [scheme_of(name) for name in (SECRET, "file:///a", "a/b", "C://", "builtin:zh")] == [
        "https",
        "file",
        "",
        "c",
        "",
    ]
    assert [names_user(name) for name in ("http://u:p@h/d", "HTTP://u@h/d", "http://h/@d", "a@b")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("ask", [sources.read, sources.check_exists])
def test_a_password_is_refused_and_not_repeated(ask, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match="was given with a user or password, which a run would write down") as caught:
        ask("http://ann:hunter2@h.example/d.json?token=hunter2")
    assert "hunter2" not in str(caught.value) and "ann" not in str(caught.value)


def test_what_a_run_stores_holds_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["heedful", "train", SECRET, "--set", f"data.path={SECRET}"])
    config, run = load_config(None, {"data.path": SECRET}), Run(tmp_path / "run")
    assert Path(resolve_run(config, None, False)[0]).name == "smollm2-135m-d-001"
    run.path.mkdir()
    run.write_config(config)
    write_json(run.provenance_file, provenance(run, 0, {}))
    assert read_json(run.provenance_file)["command"][2:] == [redacted(SECRET), "--set", f"data.path={redacted(SECRET)}"]
    assert describe_rows(run, config, None)["data"] == describe_rows(run, config, SECRET)["data"] == redacted(SECRET)
    places = [run.results(name).path.name for name in (SECRET, f"{SECRET}3")]
    assert len({*places}) == 2 and not any("hunter2" in name for name in places)
    assert run.config().data.path == SECRET  # by which it is read again


def test_a_training_stores_no_key_but_in_its_settings(rows_file: Path, tiny_folder: Path, tmp_path: Path) -> None:
    served = functools.partial(http.server.SimpleHTTPRequestHandler, directory=rows_file.parent)
    settings = {"train.max_steps": 1, "encode.template": "chatml", "evaluate.after_training": False}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), served) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/rows.json?token=hunter2"
        run = heedful.train(address, model=tiny_folder, settings=settings, out=tmp_path / "run")
        server.shutdown()
    assert run.config().data.path == address
    assert [file.name for file in run.path.rglob("*") if file.is_file() and b"hunter2" in file.read_bytes()] == [
        "config.yaml"
    ]


def test_a_sweeps_recipe_is_made_to_be_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heedful.sweep._finish", lambda run, config: True)
    monkeypatch.setattr("heedful.sweep._check_scorable", lambda configs: None)
    monkeypatch.setattr("heedful.sweep.table", lambda *arguments: {"winner": "epochs=1"})
    found = sweep(f"{SECRET}.y", vary=["train.epochs=1,2"], out=tmp_path / "sweep")
    assert "hunter2" not in Path(found["recipe"]).read_text(encoding="utf-8")


def test_what_is_refused_repeats_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for run in (Run(tmp_path / "run"), Run(Path("runs/sweep-d/epochs=1/seed-123"))):
        run.path.mkdir(parents=True)
        run.write_config(load_config(None, {"data.path": f"{SECRET}.x"}))
    with pytest.raises(UsageError, match=r"data.path was HTTPS://.*\?\.\.\., now HTTPS") as resumed:
        resolve_run(load_config(None, {"data.path": f"{SECRET}.y"}), tmp_path / "run", True)
    with pytest.raises(UsageError, match=r"other settings: data.path was HTTPS") as swept:
        sweep(f"{SECRET}.y", vary=["train.epochs=1,2"])
    assert "hunter2" not in f"{resumed.value} {swept.value}"
