"""The races run from start to page on tiny random models; nothing here asserts a time."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from benchmarks.claims import CLAIMS, CLAIMS_IN_FP32, Claim
from benchmarks.machine import commit, sources
from benchmarks.races import RACES, Contestant, Race, in_fp32, quick
from benchmarks.run import Bench, table
from benchmarks.workload import WORKLOADS, Source
from tests.processes import run_module

from benchmarks import document, earlier, results

TRAINING = {
    "tutorial": Contestant("tutorial_training", {"learn": "all"}),
    "trl": Contestant("trl_training", {"arguments": {"bf16": False}}),
    "trainer": Contestant("trainer_training", {"arguments": {"bf16": False}}),
    "heedful": Contestant("heedful_training", {"settings": {"train.precision": "fp32"}}),
}
ANSWERS = {
    "tutorial": Contestant("tutorial_answers", {"tokens": 12}),
    "transformers": Contestant("transformers_answers", {"batch": 2, "dtype": "float32", "tokens": 12}),
    "heedful": Contestant("heedful_answers", {"tokens": 12, "precision": "fp32"}),
    "llama.cpp": Contestant("llama_cpp_answers", {"kind": "f32"}),
}


@pytest.fixture(scope="module")
def source(rows_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Rows, and one place for all tests' workloads."""
    return Source(str(rows_file), "in_order", quick=True, scratch=tmp_path_factory.mktemp("scratch"))


@pytest.fixture
def bench(tmp_path: Path, source: Source) -> Bench:
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([f"{root}/src", root, os.environ.get("PYTHONPATH", "")])
    return Bench(source, tmp_path / "results", threads=1, environment={**os.environ, "PYTHONPATH": path})


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start contestants without their imports: what takes a minute here tells nothing."""
    monkeypatch.setattr("benchmarks.run.subprocess", SimpleNamespace(run=run_module, PIPE=subprocess.PIPE))


@pytest.mark.usefixtures("forked")
def test_contestants_take_turns_on_the_same_rows(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    race = Race("turns", "smollm2", "update of 8 rows", TRAINING, warm_up=1, measured=2, rounds=1)
    bench.race(race, again=False)
    stored = results.load("turns", bench.results)
    assert stored is not None
    (first,) = stored["rounds"]
    assert list(first) == list(TRAINING)
    missing = bench._missing(replace(race, rounds=2), TRAINING, [first])
    assert [label for label, _ in missing] == (["trl"] if "left_out" in first["trl"] else []) + list(TRAINING)
    assert ("left_out" in first["trl"]) == (importlib.util.find_spec("trl") is None)
    ran = {label: done for label, done in first.items() if "left_out" not in done}
    assert {len(done["seconds"]) for done in ran.values()} == {2}
    assert all(done["tokens"] == first["tutorial"]["tokens"] for done in ran.values())
    assert all(done["targets"] == first["heedful"]["targets"] for label, done in ran.items() if label != "tutorial")
    assert first["tutorial"]["targets"] == [tokens - 8 for tokens in first["tutorial"]["tokens"]]
    assert first["trainer"]["losses"][0] == pytest.approx(first["heedful"]["losses"][0], abs=1e-3)
    assert all(done["peak_mib"] > 50 for done in ran.values())
    assert "turns: tutorial: " in capsys.readouterr().err

    bench.race(race, again=False)
    assert "heedful" not in capsys.readouterr().err  # what is stored is not run again
    assert stored["sources"] == sources()
    del stored["rounds"][0]["heedful"]
    stored["commit"] = "another one, of the same code"
    results.store("turns", stored, bench.results)
    bench.race(race, again=False)
    assert capsys.readouterr().err.count("turns: heedful: ") == 1
    assert {**stored, "rounds": [], "commit": commit()} == bench._frame(race, TRAINING)
    assert {**stored, "sources": "of other code", "rounds": []} != bench._frame(race, TRAINING)


@pytest.mark.usefixtures("forked")
def test_contestants_give_the_same_answers(bench: Bench) -> None:
    race = Race("answering", "answers", "token", ANSWERS, warm_up=0, measured=3, rounds=1)
    bench.race(race, again=False)
    stored = results.load("answering", bench.results)
    assert stored is not None
    done = stored["rounds"][0]
    assert done["tutorial"]["tokens"] == 3 * 12
    assert results.same_answers(stored["rounds"], "tutorial", "transformers") == 1
    assert results.same_answers(stored["rounds"], "tutorial", "heedful") == 1
    assert "left_out" in done["llama.cpp"]


def test_a_contestant_that_fails_is_left_out_with_its_error(bench: Bench) -> None:
    broken = {"broken": Contestant("heedful_training", {"settings": {"train.speed": 9}})}
    bench.race(Race("failing", "smollm2", "update of 8 rows", broken, measured=1, rounds=1), again=False)
    stored = results.load("failing", bench.results)
    assert stored is not None
    assert "train.speed" in stored["rounds"][0]["broken"]["left_out"]


def test_a_search_gives_its_winners_settings(bench: Bench) -> None:
    rounds = [{"slow": {"seconds": [2.0]}, "fast": {"seconds": [1.0]}, "another task": {"seconds": [0.1]}}]
    contestants: dict[str, Any] = {
        "slow": {"module": "m", "batch": 1},
        "fast": {"module": "m", "batch": 8},
        "another task": {"module": "m", "batch": 9, "only_shown": True},
    }
    results.store("search", {"contestants": contestants, "rounds": rounds}, bench.results)
    assert bench._settled(Contestant("m", {"lora": True}, best_of="search")).settings == {"batch": 8, "lora": True}


def test_ratios_are_taken_within_rounds() -> None:
    rounds = [
        {"a": {"seconds": [4.0, 9.0, 5.0]}, "b": {"seconds": [1.0]}},
        {"a": {"seconds": [9.0]}, "b": {"seconds": [3.0]}},
    ]
    rounds.append({"a": {"seconds": [9.0]}, "b": {"left_out": "failed"}})
    assert results.ratio(rounds, "a", "b") == results.Spread(4.0, 3.0, 5.0)
    assert results.ratio(rounds, "a", "c") is None


def test_every_race_and_claim_is_of_something_there_is() -> None:
    races = {race.name: race for race in RACES}
    assert len(races) == len(RACES)
    for race in RACES:
        assert race.workload in WORKLOADS
        assert quick(race).measured == 2
        for contestant in race.contestants.values():
            assert importlib.util.find_spec(f"benchmarks.contestants.{contestant.module}")
            assert contestant.best_of is None or list(races).index(contestant.best_of) < list(races).index(race.name)
    assert [key.partition("_")[0] for key in _unraced(CLAIMS, RACES)] == ["encoding"] * 2 + ["serve"] * 4
    alone = _unraced(CLAIMS_IN_FP32, [in_fp32(race) for race in RACES])
    assert [key.rpartition("_")[0] for key in alone] == ["alone_serve"] * 4
    both = [*CLAIMS, *CLAIMS_IN_FP32]
    assert all(claim.read({}) is None for claim in both)
    assert len({claim.key for claim in both}) == len(both)


def _unraced(claims: list[Claim], races: list[Race]) -> list[str]:
    """Name the claims that cannot be read from these races."""
    done = {"seconds": [1.0], "peak_mib": 1.0, "losses": [1.0], "validation_loss": 1.0}
    stored = {race.name: {"rounds": [dict.fromkeys(race.contestants, done)]} for race in races}
    return [claim.key for claim in claims if claim.read(stored) is None]


@pytest.mark.parametrize("race", RACES, ids=lambda race: race.name)
def test_without_bf16_everybody_computes_in_fp32_and_nobody_twice(race: Race) -> None:
    turned = in_fp32(race).contestants
    assert not [label for label in turned if "bf16" in label]
    said = [json.dumps([c.module, c.settings, c.best_of], sort_keys=True) for c in turned.values()]
    assert len(set(said)) == len(said)
    ours = [c for c in turned.values() if c.module == "heedful_training"]
    assert all(c.settings["settings"]["train.precision"] == "fp32" for c in ours)
    assert not [words for words in said if '"bf16": true' in words or '"bf16"' in words.replace('"bf16":', "")]


def test_the_page_is_what_the_stored_races_give() -> None:
    assert document.PAGE.read_text(encoding="utf-8") == document.page(), "run python -m benchmarks.document"


def test_a_page_shows_each_claim_with_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    race = next(race for race in RACES if race.name == "gpt2")
    done = {"seconds": [1.0], "peak_mib": 1024.0, "targets": [300]}
    stored = {
        "race": "gpt2",
        "unit": race.unit,
        "machine": {"processor": "P", "cores": 2, "flags": ["avx2"], "memory_gib": 4},
        "versions": {"python": "3"},
        "settings": {
            "workload": "gpt2",
            "data": "rows.json",
            "split": "in_order",
            "threads": 2,
            "warm_up": 2,
            "measured": 5,
        },
        "contestants": {label: {"module": c.module} for label, c in race.contestants.items()},
        "rounds": [{**dict.fromkeys(race.contestants, done), "tutorial": {**done, "seconds": [9.0]}}],
    }
    results.store("gpt2", stored, tmp_path)
    rates = {"read_and_curate": 30_000, "encode": 20_000, "both": 12_000}
    measured = {"rows": 10**6, "rows_a_second": rates, "peak_mib": {"encode": 900}}
    told = [
        {"kind": "jsonl", "megabytes": 9, "own": measured, "again": {**measured, "rows_a_second": {**rates, "both": 1}}}
    ]
    (tmp_path / "encode_rows.json").write_text(json.dumps(told), encoding="utf-8")
    fast = {**stored["rounds"][0], "tutorial": {**done, "seconds": [5.0]}}  # type: ignore[dict-item]
    results.store("gpt2", {**stored, "rounds": [fast]}, tmp_path / "fp32")
    monkeypatch.setattr(document, "load_reasons", dict)
    page, _, alone = document.page(tmp_path).partition("# Without native bf16")
    assert "| GPT-2 124M, all tokens, vs tutorial | ≥ 4 x | 5.00 x | yes |  |" in alone
    assert "one_document" not in alone  # what was not measured there is not promised
    assert "| GPT-2 124M, all tokens, vs tutorial | ≥ 8 x | 9.00 x | yes |  |" in page
    assert "| GPT-2 124M, response loss, vs tutorial | ≥ 10 x | 9.00 x | **no** |  |" in page
    assert "| heedful tree | 1.0000 (1.0000 - 1.0000) | 9.00 (9.00 - 9.00) | 1.00 | 300 |" in page
    assert "| encoding 1,000,000 alpaca rows | ≥ 10000 rows/s | 12000 rows/s | yes |  |" in page
    assert "| jsonl, own | 1,000,000 | 30,000 | 20,000 | 12,000 | 900 |" in page
    assert "P, 2 cores (avx2), 4 GiB; python 3." in page
    assert "(`encode_rows.json`) does not name its machine" in page
    named = {"machine": {**stored["machine"], "processor": "Q"}, "versions": {"python": "3"}, "files": told}  # type: ignore[dict-item]
    (tmp_path / "encode_rows.json").write_text(json.dumps(named), encoding="utf-8")
    page = document.page(tmp_path)
    assert "Q, 2 cores (avx2), 4 GiB; python 3.\n\n| file, template" in page
    assert "| jsonl, own | 1,000,000 | 30,000 | 20,000 | 12,000 | 900 |" in page
    assert "tutorial / this: 9.00" in table(stored)


def test_an_earlier_version_takes_turns_with_this_one(source: Source, bench: Bench, tmp_path: Path) -> None:
    workload = bench._workload("smollm2")
    side = earlier.Side(earlier.ROOT, workload, "fp32", tmp_path / "log.txt")
    try:
        seconds = earlier.in_turn({"earlier": side, "now": side}, pairs=2)
    finally:
        side.end()
    assert all(second > 0 for times in seconds.values() for second in times)
    assert list(map(len, seconds.values())) == [2, 2]


def test_the_page_shows_earlier_code_by_the_ratios_of_pairs(tmp_path: Path) -> None:
    compared = {"workload": "smollm2", "earlier": "aaaaaaa", "now": "bbbbbbb"}
    seconds = {"earlier": [2.0, 2.2, 6.0, 2.2], "now": [1.0, 1.1, 3.0, 2.2]}
    results.store("earlier", {"compared": [{**compared, "seconds": seconds}]}, tmp_path)
    assert "| smollm2 | aaaaaaa | bbbbbbb | 2.2000 | 1.6500 | 2.000 (1.250 - 2.000) | 4 |" in document.page(tmp_path)
