"""The command line as a stranger uses it: real processes, real exit codes, one sentence for each mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from heedful.clean import clean
from heedful.cli import main
from heedful.commands.arguments import seconds_of
from heedful.errors import UsageError
from tests.processes import Process

Capsys = pytest.CaptureFixture[str]
Heedful = Callable[..., Process]


def told(capsys: Capsys, *arguments: str) -> str:
    """Run the command line in this process; give what it wrote to stdout."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert not end.value.code
    return capsys.readouterr().out


def test_a_whole_run_leaves_every_file_of_the_contract(
    heedful: Heedful,
    rows_file: Path,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capsys,
) -> None:
    asked = ["--epochs", "1", "--json", "--set", "generate.max_tokens=12", "--set", "encode.template=chatml"]
    done = heedful("train", rows_file, "--model", tiny_folder, "--out", "run", *asked)
    assert done.poll() == 0, done.stderr
    run = tmp_path / "run"
    files = "config.yaml provenance.json receipt.json metrics.jsonl evaluation.json responses.json loss-plot.pdf"
    more = "loss-plot.svg report.html data-map.json model/README.md model/model.safetensors model/chat_template.jinja"
    for name in [*files.split(), *more.split()]:
        assert (run / name).is_file(), name
    result = json.loads(done.stdout)
    assert result["run"] == "run"
    assert result["evaluation"]["models"].keys() == {"base", "tuned"}
    receipt = json.loads((run / "receipt.json").read_text())
    assert receipt["data"]["read"] == 80
    assert receipt["encoding"]["stop_supervised"] == receipt["encoding"]["rows"]
    rows = json.loads((run / "responses.json").read_text())
    assert all({"instruction", "input", "output", "model_response", "base_response"} <= row.keys() for row in rows)

    for surface in ("generate", "chat"):  # the same tokens on every surface
        row = next(row for row in rows if not row["input"])
        if surface == "generate":
            answer = heedful("generate", "run", "--prompt", row["instruction"], "--max-tokens", 12).stdout
        else:
            talk = heedful("chat", "run", "--max-tokens", 12, said=row["instruction"] + "\n/quit\n")
            assert talk.poll() == 0, talk.stderr
            answer = talk.stdout
        assert clean(row["model_response"]).strip() in answer, (surface, answer)

    monkeypatch.chdir(tmp_path)  # what needs no process of its own runs in this one
    again = told(capsys, "evaluate", "run", "--json")
    assert json.loads(again) == json.loads((run / "evaluation.json").read_text())
    out = heedful("generate", "run", "--data", rows_file, "--out", "answers.json", "--max-tokens", 4)
    assert out.poll() == 0, out.stderr
    assert len(json.loads((tmp_path / "answers.json").read_text())) == 80

    page = (run / "report.html").read_text(encoding="utf-8")
    assert told(capsys, "report", "run").strip() == "run/report.html"
    assert (run / "report.html").read_text(encoding="utf-8") == page
    look = json.loads(told(capsys, "check", "--run", "run", "--show", "3", "--json"))["look"]
    assert [row["place"].startswith(f"{rows_file}:") for row in look] == [True] * 3
    listed = told(capsys, "check", "--run", "run").splitlines()
    assert [row["place"] for row in look] == [line for line in listed if line.startswith(f"{rows_file}:")][:3]

    taken = heedful("train", rows_file, "--model", tiny_folder, "--out", "run")
    assert taken.poll() == 2
    assert "already holds a run" in taken.stderr


BAD_DATA = {
    "missing file": (None, "missing.json"),
    "empty file": ("", "empty"),
    "broken JSON": ('[{"instruction": "a", "output": "b"},\n {"instruction": }]', ":2:18"),
    "object": ('{"instruction": "a", "output": "b"}', "array"),
    "missing field": ('[{"instruction": "a", "outputs": "b"}]', 'did you mean "output"'),
    "null": ('[{"instruction": "a", "output": null}]', "output"),
    "empty": ('[{"instruction": "a", "output": "  "}]', "output"),
    "number": ('[{"instruction": 3, "output": "b"}]', "instruction"),
    "role": ('[{"messages": [{"role": "root", "content": "x"}]}]', "root"),
    "order": ('[{"messages": [{"role": "assistant", "content": "x"}]}]', "row 1"),
    "mixed": ('[{"instruction": "a", "output": "b"}, {"question": "a", "answer": "b"}]', "format"),
}


@pytest.mark.parametrize(("text", "told"), BAD_DATA.values(), ids=BAD_DATA.keys())
def test_bad_data_gets_one_sentence_and_exit_code_3(text: str | None, told: str, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    from heedful.cli import main

    path = tmp_path / ("missing.json" if text is None else "rows.json")
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        main(["check", str(path)])
    message = capsys.readouterr().err
    assert end.value.code == 3, message
    assert told in message
    assert path.name in message
    assert "Traceback" not in message


USAGE = {
    "unknown model": (["--model", "smolm2-135m"], 2, "smollm2-135m"),
    "unknown setting": (["--set", "train.learning=1"], 2, "train.learning"),
    "impossible value": (["--set", "train.epochs=-1"], 2, "train.epochs"),
    "no value": (["--set", "train.lr"], 2, "train.lr"),
    "a field twice": (["--columns", "input=a", "--columns", "output=b,input=c"], 2, "--columns names input twice."),
    "a field without column": (["--columns", "input"], 2, "--columns input is not a list."),
    "unknown option": (["--epoch", "3"], 2, "epoch"),
    "missing recipe": (["--recipe", "none.yaml"], 2, "none.yaml"),
}


@pytest.mark.parametrize(("arguments", "code", "told"), USAGE.values(), ids=USAGE.keys())
def test_bad_usage_gets_one_sentence(arguments: list[str], code: int, told: str, rows_file: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    from heedful.cli import main

    with pytest.raises(SystemExit) as end:
        main(["train", str(rows_file), *arguments])
    message = capsys.readouterr().err
    assert end.value.code == code, message
    assert told in message
    assert "Traceback" not in message


def test_columns_may_be_named_in_several_options(tmp_path: Path, capsys: Capsys) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[{"instruction": "a", "about": "b", "as": "c", "output": "d", "e": "f"}]', encoding="utf-8")
    columns = ["--columns", "input=about", "--columns", "system=as"]
    receipt = json.loads(told(capsys, "check", str(path), "--json", *columns))
    assert receipt["data"]["columns"] == {
        "instruction": "instruction",
        "output": "output",
        "input": "about",
        "system": "as",
    }


def test_a_model_folder_without_tokenizer_is_refused_before_anything_is_written(
    tiny_folder: Path, rows_file: Path, tmp_path: Path, capsys
) -> None:  # type: ignore[no-untyped-def]
    from heedful.cli import main

    folder = tmp_path / "no-tokenizer"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((tiny_folder / name).read_bytes())
    with pytest.raises(SystemExit) as end:
        main(["train", str(rows_file), "--model", str(folder), "--out", str(tmp_path / "run")])
    assert end.value.code == 1
    assert "tokenizer" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "asked", [["--set", "train.batch_size=500", "--set", "train.drop_last=true"], ["--budget", "0.01s"]]
)
def test_a_training_that_cannot_begin_leaves_no_folder(
    asked: list[str], tiny_folder: Path, rows_file: Path, tmp_path: Path, capsys: Capsys
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", str(rows_file), "--model", str(tiny_folder), "--out", str(tmp_path / "run"), *asked])
    assert end.value.code in (1, 2)
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_skipped_rows_are_counted_and_capped(tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    from heedful.cli import main

    good = [{"instruction": f"Say {i}.", "output": f"It is {i}."} for i in range(60)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([*good, {"instruction": "x", "output": None}]), encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["check", str(path), "--on-bad-row", "skip", "--json"])
    data = json.loads(capsys.readouterr().out)["data"]
    assert (data["read"], data["kept"], sum(data["skipped"].values())) == (61, 60, 1)
    path.write_text(json.dumps(good + [{"instruction": "x", "output": None}] * 4), encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        main(["check", str(path), "--on-bad-row", "skip"])
    assert end.value.code == 3


def test_every_row_of_a_folder_is_answered(tiny_folder: Path, tmp_path: Path) -> None:
    from heedful.cli import main

    for name in ("train", "test"):
        (tmp_path / f"{name}.json").write_text(json.dumps([{"instruction": name, "output": "x"}]), encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        main(["generate", str(tiny_folder), "--data", str(tmp_path), "--out", str(tmp_path / "o"), "--max-tokens", "1"])
    assert end.value.code == 0
    assert [row["instruction"] for row in json.loads((tmp_path / "o").read_text())] == ["test", "train"]


def test_a_receipt_that_cannot_be_stored_is_shown_all_the_same(
    rows_file: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from heedful.cli import main

    monkeypatch.setenv("HEEDFUL_HOME", str(rows_file / "home"))
    check = ["check", str(rows_file), "--model", str(tiny_folder)]
    with pytest.raises(SystemExit) as end:
        main([*check, "--json"])
    told = capsys.readouterr()
    assert (end.value.code, json.loads(told.out)["data"]["read"]) == (0, 80)
    assert "The receipt is not stored" in told.err
    with pytest.raises(SystemExit) as end:
        main([*check, "--out", str(rows_file / "receipt.json")])
    assert (end.value.code, "Cannot write" in capsys.readouterr().err) == (2, True)
    with pytest.raises(SystemExit) as end:
        main([*check, "--out", str(rows_file)])
    assert (end.value.code, "is not a receipt" in capsys.readouterr().err) == (2, True)


def test_a_receipt_is_written_where_a_link_leads(tmp_path: Path) -> None:
    from heedful.commands import receipt_file

    (tmp_path / "real.json").write_text("{}")
    (tmp_path / "link.json").symlink_to("real.json")
    receipt_file.store({"data": {"path": "rows.json"}}, tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink() and "rows.json" in (tmp_path / "real.json").read_text()


def test_receipts_of_equal_rows_in_two_files_lie_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from heedful.commands import receipt_file

    monkeypatch.setenv("HEEDFUL_HOME", str(tmp_path))
    for path in ("a/rows.json", "b/rows.json"):
        receipt_file.store({"data": {"path": path}}, None)
        receipt_file.store({"data": {"path": path}}, None)  # the same again is the same file
    stored = [*(tmp_path / "receipts").iterdir()]
    assert sorted(json.loads(file.read_text())["data"]["path"] for file in stored) == ["a/rows.json", "b/rows.json"]
    assert all(file.name.startswith("rows-") for file in stored)


@pytest.mark.parametrize("said", [None, "0"])
def test_the_hubs_client_reports_no_use_unless_the_user_says_so(said: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_TELEMETRY"}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": said} if said else {}
    script = "import heedful; from huggingface_hub import constants; print(constants.HF_HUB_DISABLE_TELEMETRY)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == str(said is None)


@pytest.mark.parametrize(
    ("verb", "place", "told"),
    [
        (
            ["generate", "--prompt", "Hi"],
            "runs/a",
            "runs/a holds no model: its training never finished. Continue it with",
        ),
        (["chat"], "runs/a", "heedful train --resume --out"),
        (["serve"], "runs/a", "heedful train --resume --out"),
        (["chat"], "runs", "runs is not a run but a folder of runs. Name one, such as"),
        (["generate", "--prompt", "Hi"], "adapter", "Name the run that it comes from, or export that with --to hf"),
    ],
)
def test_what_cannot_answer_says_what_to_name(
    verb: list[str], place: str, told: str, tmp_path: Path, capsys: Capsys
) -> None:
    for file in ("runs/a/config.yaml", "runs/b/config.yaml", "adapter/adapter_config.json"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(SystemExit) as end:
        main([verb[0], str(tmp_path / place), *verb[1:]])
    assert end.value.code == (2 if place == "runs" else 1)
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("budget", ["", "10", "m", "-1m", "0s", "1.5.0h", "1_0m", "²m"])
def test_a_budget_is_a_time(budget: str) -> None:
    with pytest.raises(UsageError, match="is not a time"):
        seconds_of(budget)
