"""The verbs in Python: they can be looked up, and what they do not take they refuse in one sentence."""

from __future__ import annotations

import inspect
import multiprocessing
import pydoc
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import heedful
from heedful import pipeline, training
from heedful.begin import claim_folder
from heedful.errors import UsageError
from heedful.generate.engine import Engine, RunningBatch
from heedful.records import Message, Sampling
from heedful.run import Run
from tests.generate.conftest import shared_engine

SHORT = Sampling(max_tokens=3)


@pytest.mark.parametrize("name", ["train", "evaluate", "generate", "export"])
def test_a_callable_package_tells_of_its_verb(name: str) -> None:
    verb, function = getattr(heedful, name), getattr(pipeline, name)
    assert inspect.signature(verb) == inspect.signature(function)
    assert inspect.getdoc(function) in verb.__doc__
    assert f"{name}{inspect.signature(function)}" in pydoc.plain(pydoc.render_doc(verb))


def test_messages_may_be_mappings() -> None:
    engine = shared_engine("llama")
    said = [{"role": "user", "content": "Name a fruit."}]
    answers = engine.generate([said, [Message("user", "Name a fruit.")], "Name a fruit."], SHORT)
    assert len({answer.token_ids for answer in answers}) == 1


def test_several_prompts_draw_apart_and_one_from_the_seed_itself() -> None:
    engine, drawn = shared_engine("llama"), {"generate.max_tokens": 3, "generate.temperature": 2.0}
    (alone,) = heedful.generate(engine, ["Hi"], settings=drawn)
    assert alone.token_ids == engine.generate(["Hi"], Sampling(max_tokens=3, temperature=2.0))[0].token_ids
    together = heedful.generate(engine, ["Hi"] * 5, settings=drawn)
    assert len({answer.token_ids for answer in together}) == 5


def test_a_run_and_its_engine_draw_alike(tiny_folder: Path) -> None:
    drawn = {"generate.max_tokens": 3, "generate.temperature": 2.0}
    answers = heedful.generate(tiny_folder, ["Hi"] * 5, settings=drawn)
    again = heedful.load(tiny_folder, settings=drawn).generate(["Hi"] * 5)
    assert [a.token_ids for a in answers] == [a.token_ids for a in again]
    assert len({answer.token_ids for answer in answers}) == 5


def test_an_engine_keeps_the_settings_that_are_not_asked_for(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = heedful.load(tiny_folder, settings={"generate.max_tokens": 3, "generate.batch_size": 2})
    most = []
    room = RunningBatch.room
    monkeypatch.setattr(RunningBatch, "room", lambda *asked: most.append(asked[2]) or room(*asked))
    (answer,) = heedful.generate(engine, ["Hi"], settings={"generate.temperature": 0.5})
    assert len(answer.token_ids) <= 3 and set(most) == {2}
    heedful.generate(engine, ["Hi"], settings=["generate.batch_size=7"])
    assert set(most) == {2, 7}
    assert engine.sampling == Sampling(max_tokens=3)


def test_a_setting_that_nothing_would_read_is_refused(tiny_folder: Path) -> None:
    with pytest.raises(UsageError, match=r"heedful\.load does not read train\.lr"):
        heedful.load(tiny_folder, settings={"train.lr": 1.0})
    with pytest.raises(UsageError, match=r"An engine that is loaded does not read generate\.precision"):
        heedful.generate(heedful.load(tiny_folder), ["Hi"], settings={"generate.precision": "fp32"})


UNTAKEN: dict[str, tuple[Callable[[Engine], Any], str]] = {
    "bytes": (lambda engine: engine.generate([b"x"]), r"b'x' \(bytes\) is not a prompt. A prompt is a text, or a list"),
    "a number": (lambda engine: engine.generate([3]), r"3 \(int\) is not a prompt"),  # type: ignore[list-item]
    "a list of texts": (lambda engine: [*engine.stream(["hi"])], r"'hi' \(str\) is not a message. A prompt is"),
    "a role": (lambda engine: engine.generate([[{"role": "root", "content": "x"}]]), "The roles are system, user"),
    "no content": (lambda engine: engine.generate([[{"role": "user", "text": "x"}]]), "only a role and a content"),
    "a Message without content": (
        lambda engine: engine.generate([[Message("user", None)]]),  # type: ignore[arg-type]
        "both texts. The roles are system, user, assistant, tool; got Message",
    ),
    "a number as content": (lambda engine: engine.generate([[Message("user", 3)]]), "both texts"),  # type: ignore[arg-type]
    "a Message of another role": (lambda engine: engine.generate([[Message("root", "x")]]), "The roles are"),  # type: ignore[arg-type]
    "half a character": (lambda engine: engine.generate(["\ud800"]), "is not text"),
    "sampling": (lambda engine: engine.generate(["x"], {"max_tokens": 3}), r"\(dict\) is not a Sampling. Give a"),
    "samplings": (lambda engine: engine.generate(["x"], [SHORT, SHORT]), "2 samplings were given for 1 prompts"),
    "no batch": (lambda engine: engine.generate(["x"], batch_size=0), "batch_size=0 answers nothing"),
    "a generator": (lambda engine: engine.generate(text for text in "ab"), r"\(generator\)\. Write \[\.\.\.\] or list"),  # type: ignore[arg-type]
    "a set": (lambda engine: engine.generate({"a", "b"}), r"takes a list of prompts, and got {.* \(set\)"),  # type: ignore[arg-type]
    "nothing": (lambda _: heedful.generate("no such model", None), r"got None \(NoneType\)"),  # type: ignore[arg-type]
    "rows to check": (
        lambda _: heedful.check([{"instruction": "a"}]),
        "data must be a name or a path, not of type list.",
    ),
    "rows to train on": (lambda _: heedful.train([{"instruction": "a"}]), "Write rows to a file first"),
}


@pytest.mark.parametrize(("call", "told"), UNTAKEN.values(), ids=UNTAKEN.keys())
def test_what_is_not_taken_is_refused(call: Callable[[Engine], Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        call(shared_engine("llama"))


def test_rows_to_evaluate_on_are_a_file(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    with pytest.raises(UsageError, match="data must be a name or a path, not of type list"):
        heedful.evaluate(tmp_path, [{"instruction": "a"}])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"settings": None}, r"settings must be a mapping or a list of texts, not None\."),
        ({"settings": "train.lr=2"}, r"settings must be a mapping or a list of texts, not 'train\.lr=2'\. Write"),
        ({"settings": [1]}, r"settings must be .* not \[1\]\."),
        ({"settings": {1: 2}}, r"settings must be .* not \{1: 2\}\."),
        ({"model": 3}, r"model must be a name, a path or a run, not of type int\."),
        ({"out": 5}, r"out must be a name or a path, not of type int\."),
        ({"budget": "10m"}, r"budget must be a number of seconds, not of type str\. Write 600 for 10m\."),
    ],
)
def test_an_argument_of_another_kind_is_named(wrong: dict[str, Any], told: str, rows_file: Path) -> None:
    with pytest.raises(UsageError, match=told):
        heedful.train(rows_file, **wrong)


def test_a_training_leaves_the_callers_random_numbers_alone(tiny_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(()))

    def seed() -> None:
        random.seed(5), np.random.seed(5), torch.manual_seed(5)

    seed()
    expected = drawn()
    seed()
    quick = {"train.max_steps": 1, "train.method": "lora", "generate.max_tokens": 2, "evaluate.after_training": False}
    heedful.train(rows_file, model=tiny_folder, settings=quick, out=tmp_path / "run")
    assert drawn() == expected


def test_a_training_goes_on_from_the_run_that_another_gave(tiny_folder: Path, rows_file: Path, tmp_path: Path) -> None:
    quick = {"train.max_steps": 1, "generate.max_tokens": 2, "evaluate.after_training": False}
    first = heedful.train(rows_file, model=tiny_folder, settings=quick, out=tmp_path / "first")
    second = heedful.train(rows_file, model=first, settings=quick, out=tmp_path / "second")
    assert second.provenance()["model"] == str(first.model)
    assert heedful.check(rows_file, model=second).encoder.template.name == "own"


@pytest.mark.parametrize("verb", [heedful.evaluate, heedful.load, lambda run: heedful.generate(run, ["a"])])
def test_what_is_no_name_of_a_run_is_refused(verb: Callable[[Any], Any]) -> None:
    with pytest.raises(UsageError, match=r"A run or a model must be a name or a path, not of type int\."):
        verb(5)


def test_one_training_at_a_time_draws_the_processs_random_numbers(
    tiny_folder: Path, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As two would take each other's; the refused one leaves nothing behind, and may train afterwards."""

    def train(name: str) -> Run:
        settings = {"train.max_steps": 1, "evaluate.after_training": False}
        return heedful.train(rows_file, model=str(tiny_folder), settings=settings, out=tmp_path / name)

    def meanwhile(run: Run, resume: bool) -> AbstractContextManager[None]:
        if run.path.name == "first":
            with ThreadPoolExecutor() as pool, pytest.raises(UsageError, match="Another training is going on"):
                pool.submit(train, "second").result()
        return claim_folder(run, resume)

    with monkeypatch.context() as patch:
        patch.setattr("heedful.training.claim_folder", meanwhile)
        train("first")
    assert not (tmp_path / "second").exists()
    assert train("second").has_model


def test_what_is_forked_of_a_process_that_trains_may_train(tmp_path: Path) -> None:
    """As multiprocessing does on Linux; the thread that trains is not in there."""

    def train() -> None:
        with training._alone():
            (tmp_path / "trains").touch()

    with training._alone():
        child = multiprocessing.get_context("fork").Process(target=train)
        child.start()
        child.join(60)
    assert child.exitcode == 0 and (tmp_path / "trains").exists()
