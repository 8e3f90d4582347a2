"""The probes that ship, and what they say of a model before and after."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
import torch
from tests.models import byte_tokenizer, tiny_model

from heedful.encode.batch import Collator
from heedful.encode.template import choose_template
from heedful.encode.tokenise import Encoder, stop_ids
from heedful.evaluate import likelihood
from heedful.evaluate.forgetting import probe, probe_rows, probes
from heedful.evaluate.metrics import normalised_match, words
from heedful.evaluate.rows import Cell
from heedful.evaluate.summary import forgetting
from heedful.generate.engine import Engine
from heedful.records import Conversation, Message, Place, TokenizedExample
from heedful.train.loss import summed_nll

POSITIONS = 512
PADDED = Collator("padded", pad_id=0, prompt_weight=0.0, batch_tokens=2048)


def encoder(positions: int = POSITIONS) -> Encoder:
    template = choose_template("chatml", byte_tokenizer())
    return Encoder(template, stop_ids(template), positions)


def examples(count: int) -> list[TokenizedExample]:
    rows = [
        Conversation(
            str(i), (Message("user", f"Q {i // 4}"), Message("assistant", f"a {i % 4}" * (i % 5 + 1))), Place("f", i)
        )
        for i in range(count)
    ]
    return encoder().encode(rows)[0]


def test_there_are_enough_and_each_is_well_formed() -> None:
    asked = probes()
    families = Counter(p.family for p in asked)
    assert len(asked) >= 100
    assert families.keys() == {"geography", "science", "culture", "words", "arithmetic", "format"}
    assert min(families.values()) >= 15
    assert len({p.question for p in asked}) == len(asked)
    for p in asked:
        assert len(p.others) == 3, p
        assert len({p.answer, *p.others}) == 4, p
        assert p.question.strip() == p.question and "|" not in p.question + p.answer, p


def test_a_right_answer_matches_in_a_sentences_dress_and_a_wrong_one_does_not() -> None:
    for p in probes():
        if p.family != "format":
            assert normalised_match(f" The {p.answer.upper()}.\n", p.answer), p
            assert not any(normalised_match(other, p.answer) for other in p.others), p


def test_sums_are_right() -> None:
    signs = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "times": lambda a, b: a * b,
        "divided by": lambda a, b: a / b,
    }
    checked = 0
    for p in probes():
        if found := re.match(r"What is (\d+) (\+|-|times|divided by) (\d+)\?", p.question):
            assert signs[found[2]](int(found[1]), int(found[3])) == int(p.answer), p
            checked += 1
    assert checked >= 20


def test_no_probe_is_a_row_of_the_data_that_ships() -> None:
    import importlib.resources

    text = importlib.resources.files("heedful.data.builtin").joinpath("en.json").read_text(encoding="utf-8")
    asked = {tuple(words(row["instruction"])) for row in json.loads(text)}
    same = [p.question for p in probes() if tuple(words(p.question.partition("?")[0])) in asked]
    assert same == []


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bloom", "mistral"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tree_measures_what_rows_apart_do(kind: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(
        kind, initializer_range=0.05, **({} if kind == "bloom" else {"max_position_embeddings": POSITIONS})
    )
    model = model.to(dtype)
    rows = examples(30)
    monkeypatch.setattr(likelihood, "TREE_NODES", 100)  # several trees
    found = likelihood.summed(model, rows)
    with torch.inference_mode():
        apart = [float(summed_nll(model, batch)) for row in rows for batch in PADDED.batches([row])]
    assert found == pytest.approx(apart, rel=1e-5 if dtype == torch.float32 else 2e-2)


def test_a_model_is_probed_and_compared() -> None:
    torch.manual_seed(0)
    cells = {}
    for name, seed in (("base", 1), ("tuned", 2)):
        model = tiny_model("llama", seed=seed, max_position_embeddings=POSITIONS)
        engine = Engine(model, encoder())
        cells[name] = probe(engine, encoder())
    assert len(cells["base"]) == len(probes())
    found = forgetting(probe_rows(cells))
    assert found.keys() == {"rows", "models", "paired", "families"}
    assert found["models"]["base"].keys() == {"chosen", "nll", "exact_match"}
    assert found["paired"]["nll"].keys() == {"difference", "low", "high", "p_value", "verdict", "n"}
    assert found["families"]["arithmetic"]["rows"] == 32
    assert 0.05 < found["models"]["base"]["chosen"]["value"] < 0.5  # it knows nothing: near a quarter


def test_what_is_likelier_than_every_alternative_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle finds right answers cheap, and those of one family dear."""
    from heedful.evaluate import forgetting as module

    costs = [cost for p in probes() for cost in ([2.0 if p.family == "words" else 0.5] + [1.0] * 3)]
    monkeypatch.setattr(module, "summed", lambda model, rows: costs)
    engine = Engine(tiny_model("llama", max_position_embeddings=POSITIONS), encoder())
    found = forgetting(probe_rows({"base": probe(engine, encoder())}))
    assert found["families"]["words"]["models"]["base"]["chosen"]["value"] == 0
    assert found["families"]["science"]["models"]["base"]["chosen"]["value"] == 1


def test_the_stop_token_is_not_measured() -> None:
    from heedful.evaluate.forgetting import _without_stop

    (row, *_) = examples(1)
    assert int(row.ids[-1]) in encoder().stop_ids and row.supervised[-1]
    assert int(_without_stop(row).supervised.sum()) == int(row.supervised.sum()) - 1
    assert not _without_stop(row).supervised[-1]


def test_a_model_too_short_for_them_is_not_probed() -> None:
    engine = Engine(tiny_model("llama"), encoder(64))
    assert probe(engine, encoder(64)) == []
    assert probe_rows({"base": [], "tuned": [Cell({})]}) == []
