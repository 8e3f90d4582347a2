"""A sweep trains its variants once, compares them on the same rows, and names the best and how sure that is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate.verbs import QUICK

from heedful import pipeline, sweep, training
from heedful.begin import configure
from heedful.cli import main
from heedful.errors import Diverged, HeedfulError, UsageError
from heedful.evaluate.rows import Cell, RowScores, write_rows
from heedful.evaluate.variants import Variant, _adjust, averaged, table
from heedful.run import Run
from heedful.settings import dump_config, load_config, override
from heedful.system.atomic import read_json, write_json


def test_a_sweep_answers_again_what_was_answered_under_other_settings(
    copy: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    again: list[Run] = []
    monkeypatch.setattr(pipeline, "evaluate", again.append)
    sweep._finish(copy, copy.config())
    assert again == []
    found = read_json(copy.evaluation_file)
    found["of"]["settings"] = {"generate.max_tokens": 99}
    write_json(copy.evaluation_file, found)
    sweep._finish(copy, copy.config())
    assert again == [copy]


def test_a_sweep_is_trained_once_and_compared(
    rows: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {
        "vary": ["train.lr=1e-4,1e-2"], "seeds": 2, "model": str(tiny_folder), "settings": QUICK,
        "out": tmp_path / "sweep",
    }  # fmt: skip
    for name in ("loss_plot", "write_pages"):  # pictures, pages and probes have tests of their own
        monkeypatch.setattr(training, name, lambda *arguments: None)
    monkeypatch.setattr("heedful.evaluate.base_and_tuned.probe", lambda *arguments: [])
    found = sweep.sweep(str(rows), **asked)
    assert [v["name"] for v in found["variants"]] == ["lr=1e-4", "lr=1e-2"]
    assert found["default"] == found["compared_with"] == "lr=1e-4"
    first, second = found["variants"]
    assert first["paired"] == {} and second["paired"]["rouge_l"].keys() >= {"difference", "p_value_of_all", "verdict"}
    assert len(first["by_seed"]) == 2
    each = [read_json(Path(path) / "evaluation.json")["models"]["tuned"]["nll"]["value"] for path in second["runs"]]
    assert second["scores"]["nll"]["value"] == pytest.approx(sum(each) / 2)
    assert read_json(tmp_path / "sweep" / "sweep.json") == found
    winner = configure(found["recipe"], (), None, None)
    assert str(winner.train.lr) in {"0.0001", "0.01"} and winner.data.path == str(rows)

    trained: list[Any] = []
    monkeypatch.setattr(pipeline, "train", lambda *a, **k: trained.append(k) or pytest.fail("a run was repeated"))
    assert sweep.sweep(str(rows), **asked) == found
    with pytest.raises(UsageError, match=r"other settings: train.epochs was 1, now 2"):
        sweep.sweep(str(rows), **{**asked, "settings": {**QUICK, "train.epochs": 2}})
    with pytest.raises(UsageError, match=r"train.patience was null, now 3"):
        sweep.sweep(str(rows), **{**asked, "settings": {**QUICK, "train.patience": 3}})
    monkeypatch.undo()

    run = Run(Path(second["runs"][0]))  # as if killed: between training and evaluation, and before any checkpoint
    run.scores_file.unlink()
    other = Run(Path(second["runs"][1]))
    assert not other.checkpoints.exists()  # a finished run needs none, and a grid of them would fill a disk
    shutil.rmtree(other.model)
    other.evaluation_file.unlink()
    other.scores_file.unlink()
    again = sweep.sweep(str(rows), **asked)
    assert again["variants"][1]["scores"]["nll"] == second["scores"]["nll"]
    heedful_sweep = ["sweep", rows, "--vary", "train.lr=1e-4,1e-2", "--seeds", 2, "-m", tiny_folder]
    settings = [word for leaf, value in QUICK.items() for word in ("--set", f"{leaf}={value}")]
    with pytest.raises(SystemExit, match="0"):
        main([str(word) for word in (*heedful_sweep, *settings, "--out", tmp_path / "sweep")])
    assert "verdict are of these trainings" in capsys.readouterr().out


def test_a_sweep_goes_on_without_what_diverges(
    rows: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("loss_plot", "write_pages"):
        monkeypatch.setattr(training, name, lambda *arguments: None)
    monkeypatch.setattr("heedful.evaluate.base_and_tuned.probe", lambda *arguments: [])
    asked = ["sweep", str(rows), "-m", str(tiny_folder), "--out", str(tmp_path / "sweep")]
    asked += [f"--set={leaf}={value}" for leaf, value in {**QUICK, "train.max_steps": 2}.items()]
    for _ in range(2):  # what diverged is not trained again
        with pytest.raises(SystemExit, match="0"):
            main([*asked, "--seeds=2", "--vary", "train.lr=1e25,1e-3"])
        told = capsys.readouterr()
        assert "Left out, as they diverged: lr=1e25." in told.out
        assert "lr=1e25/seed-124" not in told.err  # with another seed it is not trained
    assert "It diverged, so its variant is left out." in told.err and "step 1/2" not in told.err
    assert read_json(tmp_path / "sweep" / "sweep.json")["winner"] == "lr=1e-3"
    settings = {**QUICK, "train.max_steps": 2, "data.validation_share": 0}  # two bad updates are not yet a divergence
    out = tmp_path / "unvalidated"
    found = sweep.sweep(str(rows), vary=["train.lr=1e10,1e-3"], model=str(tiny_folder), settings=settings, out=out)
    assert (found["winner"], found["diverged"]) == ("lr=1e-3", ["lr=1e10"])
    with pytest.raises(Diverged, match=r"Every variant diverged.*lower train\.lr"):
        sweep.sweep(str(rows), vary=["train.lr=1e25"], model=str(tiny_folder), settings=QUICK, out=tmp_path / "other")


@pytest.mark.parametrize(
    ("vary", "told"),
    [
        ([], "at least one"),
        (["train.lr"], "lists no values"),
        (["train.lr=1e-4,1e-4"], "same settings"),
        (["train.lr=1e-4,0.0001"], "lr=1e-4 and lr=0.0001 are the same settings"),  # YAML reads 1e-4 as text
        (["train.batch_size=8,auto"], "batch_size=8 and batch_size=auto are the same settings"),
        (["train.lr=1e-4,,1e-3"], "lists no values"),
        (["train.precision="], "lists no values"),
        (["train.lrr=1"], "Did you mean 'train.lr'"),
        (["train.seed=1,2"], "--seeds"),
        (["data.seed=1,2"], "judged by the same rows"),
        (["train.lr=1e-4", "train.lr=1e-3"], "each setting once"),
        (["train.epochs=1,-1"], "train.epochs"),
        (["train.method=full,qlora"], "train.method"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_it_trains(vary: list[str], told: str, tmp_path: Path) -> None:
    with pytest.raises(HeedfulError) as error:
        sweep.sweep("builtin", vary=vary, out=tmp_path / "sweep")
    assert told in str(error.value)
    assert not (tmp_path / "sweep").exists()


def test_a_variant_is_named_by_its_values_and_null_is_one() -> None:
    leaf, values = sweep.axis_of("train.clip=1.0,null")
    assert (leaf, values) == ("train.clip", [1.0, None])
    assert [variant.name for variant in sweep.grid([(leaf, values)], Path("s"), [1])] == ["clip=1.0", "clip=null"]
    both = sweep.grid([("train.precision", ["fp32"]), ("generate.precision", ["bf16"])], Path("s"), [1])
    assert both[0].name == "precision=fp32 precision=bf16"


def variant(name: str, folder: Path, said: list[str]) -> Variant:
    """Make a variant whose one run scored rows of which this is said, each by its number."""
    run = Run(folder / name)
    run.path.mkdir()
    cells = [Cell({"rouge_l": int(key[1:]) / 40}) for key in said]
    scored = [RowScores(key, key, key, {"tuned": cell}) for key, cell in zip(said, cells, strict=True)]
    write_rows(run.scores_file, scored)
    write_json(run.evaluation_file, {})
    return Variant(name, {}, (run,))


def test_variants_are_compared_on_the_same_rows_alone(tmp_path: Path) -> None:
    """In whatever order they lie; a row that stands twice is two."""
    first = variant("lr=1", tmp_path, ["a7", *(f"a{i}" for i in range(30))])
    other = variant("lr=2", tmp_path, ["b3", *(f"a{i}" for i in reversed(range(25))), "a7", "b4"])
    strange = variant("lr=3", tmp_path, [f"b{i}" for i in range(31)])
    alone, found = (table(variants, first, "rouge_l") for variants in ([first], [first, other]))
    assert [(told["rows"], told["left_out"]) for told in (alone, found)] == [(31, 0), (26, 7)]
    pair = found["variants"][1]["paired"]["rouge_l"]
    assert pair["low"] == pair["difference"] == pair["high"] == 0
    with pytest.raises(UsageError, match=r"No test row was scored by all 3 runs. Choose another --out"):
        table([first, other, strange], first, "rouge_l")


def test_seeds_are_averaged_over_what_each_of_them_scored() -> None:
    one = Cell({"rouge_l": 0.25, "nll": 1.0}, {"targets": 3}, {"chrf": [1, 2]})
    (found,) = averaged([[one], [Cell({"rouge_l": 0.75}, {"targets": 3}, {"chrf": [3, 5]})]])
    assert found == Cell({"rouge_l": 0.5}, {"targets": 3}, {"chrf": [4, 7]})


def scored_variant(name: str, folder: Path, metric: str, value: float) -> Variant:
    """Make a variant whose one run scored 30 rows alike."""
    run = Run(folder / name)
    run.path.mkdir()
    cell = Cell({metric: value}, {"targets": 1})
    write_rows(run.scores_file, [RowScores(key, key, key, {"tuned": cell}) for key in map(str, range(30))])
    write_json(run.evaluation_file, {})
    return Variant(name, {}, (run,))


@pytest.mark.parametrize("decides", ["rouge_l", "nll"])
def test_the_winner_is_the_variant_whose_deciding_score_is_best_over_its_seeds(decides: str, tmp_path: Path) -> None:
    low, high = (scored_variant(f"lr={value}", tmp_path, decides, value) for value in (0.2, 0.8))
    best = {"rouge_l": high, "nll": low}[decides]
    for first, second in ((low, high), (high, low)):
        assert table([first, second], first, decides)["winner"] == best.name
    both = Variant("both", {}, (*low.runs, *high.runs))
    (entry,) = table([both], both, decides)["variants"]
    assert (entry["by_seed"], entry["scores"][decides]["value"]) == (pytest.approx([0.2, 0.8]), pytest.approx(0.5))


def test_of_equal_variants_the_one_that_all_are_compared_with_wins(tmp_path: Path) -> None:
    other, default = (scored_variant(name, tmp_path, "rouge_l", 0.5) for name in ("other", "default"))
    assert table([other, default], default, "rouge_l")["winner"] == "default"


def test_a_sweep_is_not_continued_on_other_data(
    run: Run, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "rows.json"
    shutil.copy(rows, data)
    done = Run(tmp_path / "sweep" / "lr=1e-4" / "seed-123")
    shutil.copytree(run.path, done.path)
    done.write_config(run.config({"train.lr": 1e-4, "data.path": str(data)}))
    asked: list[Run] = []
    monkeypatch.setattr(sweep, "_finish", lambda run, config: not asked.append(run))  # type: ignore[func-returns-value]
    monkeypatch.setattr(sweep, "table", lambda *arguments: {"winner": "lr=1e-4"})
    settings = {**QUICK, "model.name": run.config().model.name}
    again: dict[str, Any] = {"vary": ["train.lr=1e-4,1e-2"], "settings": settings, "out": tmp_path / "sweep"}
    sweep.sweep(str(data), **again)
    assert len(asked) == 2
    data.write_text(json.dumps(json.loads(data.read_text(encoding="utf-8"))[:-1]), encoding="utf-8")
    with pytest.raises(UsageError, match=r"rows\.json is not what .*seed-123 was trained on.* Choose another --out"):
        sweep.sweep(str(data), **again)
    assert len(asked) == 2


def test_a_sweep_does_not_move_into_a_run(run: Run) -> None:
    with pytest.raises(UsageError, match="holds a run, not a sweep"):
        sweep.sweep("builtin", vary=["train.lr=1e-4"], out=run.path)


@pytest.mark.parametrize("vary", ["encode.template=alpaca,chatml", "model.name=a,b"])
def test_nats_a_token_do_not_decide_between_other_tokens(vary: str, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"vary": [vary], "settings": {"evaluate.decides": "nll"}, "out": tmp_path / "sweep"}
    with pytest.raises(UsageError, match=f"nll cannot compare what --vary {vary.partition('=')[0]} gives"):
        sweep.sweep("builtin", **asked)
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("settings", "vary", "default"),
    [
        ({}, "train.lr=5e-5,1e-4", "lr=1e-4"),  # no setting says so, but it is what full fine-tuning takes
        ({"train.method": "lora"}, "train.lr=1e-4,1e-3", "lr=1e-3"),
        ({"train.lr": 2e-4}, "train.lr=1e-4,2e-4", "lr=2e-4"),
        ({}, "train.lr=5e-5,2e-4", None),
        ({}, "train.method=lora,full", "method=full"),
    ],
)
def test_the_default_is_the_variant_that_would_be_trained_without_a_sweep(
    settings: dict[str, Any], vary: str, default: str | None, tmp_path: Path
) -> None:
    variants = sweep.grid([sweep.axis_of(vary)], tmp_path, [123])
    assert [v.name for v in variants if sweep._is_default(v, load_config(None, settings))] == [default] * bool(default)


def test_p_values_of_many_variants_are_adjusted() -> None:
    def adjusted(*found: float) -> list[dict[str, Any]]:
        pairs = [{"p_value": p, "verdict": "better"} for p in found]
        _adjust([{"paired": {}}, *({"paired": {"nll": pair}} for pair in pairs)], "nll")
        return pairs

    assert [pair["p_value_of_all"] for pair in adjusted(0.9, 0.6)] == [1, 1]
    pairs = adjusted(0.04, 0.01, 0.03)
    assert [pair["p_value_of_all"] for pair in pairs] == pytest.approx([0.06, 0.03, 0.06])  # Holm, by hand
    assert [pair["verdict"] for pair in pairs] == [
        "within noise; of 3 variants one may look so by chance", "better",
        "within noise; of 3 variants one may look so by chance",
    ]  # fmt: skip


def test_a_sweep_of_an_earlier_version_goes_on_after_its_runs_were_resumed(tmp_path: Path) -> None:
    """It did not write which precision was asked for, nor which layout; a resume settles them."""
    asked, run = load_config(None, ()), Run(tmp_path)
    settled = override(asked, {"train.precision": "fp32", "encode.layout": "padded"})
    run.config_file.write_text(dump_config(settled), encoding="utf-8")
    write_json(run.provenance_file, {"asked": {"encode.batch_tokens": "auto"}})
    sweep._check_earlier({tmp_path: asked}, asked.data)
