"""What needs no model is told at once: help, lists, and errors of what is not there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from typer.main import get_command

import heedful
from heedful.cli import app

NOWHERE = [
    ["check", "nowhere.json"], ["train", "nowhere.json"], ["train", "--model", "nowhere"], ["evaluate", "nowhere"],
    ["compare", "nowhere", "nowhere"], ["generate", "nowhere", "--prompt", "Hi"], ["chat", "nowhere"],
    ["serve", "nowhere"], ["export", "nowhere", "--to", "hf"], ["report", "nowhere"], ["doctor", "nowhere.json"],
    ["push", "nowhere", "--to", "me/tuned"], ["train", "--set", "train.speed=9"],
    ["train", "--resume", "--out", "nowhere"], ["sweep", "--vary", "train.lr=1e-4,2e-4", "nowhere.json"],
    ["generate", "gpt2", "--out", "a", "--data", "nowhere.json"], ["generate", "gpt2", "--data", "builtin"],
    ["serve", "gpt2", "--set", "generate.speed=9"], ["chat", "--url", "http://127.0.0.1:1"],
]  # fmt: skip


def test_what_needs_no_torch_imports_none() -> None:
    """Above all errors: nobody shall wait for libraries to read that a file is not there."""
    script = "\n".join([
        "import json, sys",
        "from heedful.cli import main",
        "for line in json.loads(sys.argv[1]):",
        "    try: main(line)",
        "    except SystemExit as end: print('\\n==', json.dumps(line), end.code, 'torch' in sys.modules)",
    ])  # fmt: skip
    lines = [["--help"], ["models"], *NOWHERE]
    done = subprocess.run([sys.executable, "-c", script, json.dumps(lines)], capture_output=True, text=True, check=True)
    told = [line for line in done.stdout.splitlines() if line.startswith("==")]
    codes = [0, 0, *(3 if line[-1].endswith(".json") else 2 for line in NOWHERE)]
    assert told == [f"== {json.dumps(line)} {code} False" for line, code in zip(lines, codes, strict=True)]


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        app(["--version"])
    assert end.value.code == 0 and capsys.readouterr().out == f"heedful {heedful.__version__}\n"


def test_models_and_settings_are_listed(capsys) -> None:  # type: ignore[no-untyped-def]
    from heedful.cli import main

    for arguments, told in ((["models", "--json"], "smollm2-135m"), (["train", "--settings"], "encode.prompt_weight")):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert not end.value.code
        assert told in capsys.readouterr().out


def test_nothing_is_cut_on_a_screen_of_80_columns() -> None:
    """A name that is cut cannot be typed."""
    script = "\n".join([
        "import sys",
        "from heedful.cli import main",
        "for line in sys.argv[1:]:",
        "    try: main(line.split())",
        "    except SystemExit as end: assert not end.code",
    ])  # fmt: skip
    lines = [
        "--help",
        "train --settings",
        *(f"{command.callback.__name__} --help" for command in app.registered_commands),
    ]
    wide = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run([sys.executable, "-c", script, *lines], capture_output=True, text=True, check=True, env=wide)
    assert "--max-tokens, --max-seq-length" in done.stdout and "train.group_by_beginning=" in done.stdout
    usual = re.sub(r"\[ARGS\]\.\.\.|,\.\.\.", "", done.stdout)
    assert [line for line in usual.splitlines() if "…" in line or "..." in line] == []


@pytest.mark.parametrize(
    "verb", sorted(command.name or command.callback.__name__ for command in app.registered_commands)
)
def test_every_option_has_a_word_of_help(verb: str) -> None:
    command = get_command(app).commands[verb]  # type: ignore[attr-defined]
    silent = [p.name for p in command.params if p.param_type_name == "option" and not p.help]
    assert not silent


def test_the_servers_longest_answer_is_told_as_the_default_that_it_is() -> None:
    """A request may ask for more."""
    (option,) = (p for p in get_command(app).commands["serve"].params if p.name == "max_tokens")  # type: ignore[attr-defined]
    assert option.help == "Longest answer to a request that names no limit of its own, in tokens."
