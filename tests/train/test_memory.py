"""Memory: known before weights are read, and refused in one sentence."""

from __future__ import annotations

import re
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests import processes
from tests.models import ALIBI, EXPERTS, byte_tokenizer, tiny_model
from tests.train.sessions import session

import heedful
from heedful.config import TrainConfig
from heedful.encode import batch
from heedful.encode.batch import MOST_TOKENS, Collator
from heedful.errors import RunError
from heedful.records import Batch, TokenizedExample
from heedful.settings import override
from heedful.system import machine
from heedful.train.attention import QUERIES
from heedful.train.estimate import estimate, fit_to_memory, heaviest, largest_update, predicting
from heedful.train.learner import Learner
from heedful.train.precision import Precision, native_bf16
from heedful.train.probe import attend_by_tree

WIDE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 3}


@pytest.mark.parametrize(("method", "precision"), [("full", "fp32"), ("lora", "fp32"), ("full", "bf16")])
def test_what_is_held_is_what_was_estimated(
    tmp_path: Path, method: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masters, moments and working copies to the byte."""
    monkeypatch.setattr("heedful.train.precision.native_bf16", lambda: True)
    made = session(tmp_path, f"train.method={method}", f"train.precision={precision}")
    optimizer = made.learner.optimizer
    held = [*optimizer.masters.values(), *optimizer.first.values(), *optimizer.second.values()]
    masters = sum(t.numel() * t.element_size() for t in held)
    model = {t.data_ptr(): t.numel() * t.element_size() for t in made.learner.model.parameters()}
    own = sum(size for place, size in model.items() if place not in {t.data_ptr() for t in held})
    need = estimate(tiny_model("llama").config, made.config.train)
    extra = need.gradients if (method, precision) == ("lora", "fp32") else 0  # there the weight is its own master
    assert (need.masters, need.weights - extra) == (masters, own)


def long_row(tokens: int, number: int = 0) -> TokenizedExample:
    """Return a row whose last token alone is learned."""
    ids = np.random.default_rng(number).integers(0, 256, tokens, dtype=np.int32)
    return TokenizedExample(str(number), ids, np.arange(tokens) == tokens - 1)


def train_on_a_long_row(tokens: int, probed: bool) -> None:
    """Print the bytes by which the peak grew."""
    model = tiny_model("llama", max_position_embeddings=tokens)
    made = Learner(model, Collator("tree", 0, 0.0, tokens), TrainConfig(precision="fp32"), 1)
    before = machine.peak_memory()
    assert attend_by_tree(model, tokens if probed else 8)
    made.accumulate([long_row(tokens)], 0)
    print(machine.peak_memory() - before)


@pytest.mark.parametrize("probed", [True, False])
def test_a_long_row_takes_what_was_estimated(probed: bool, tmp_path: Path) -> None:
    """Most of it are masks, whose size is the square of the row's; those of the probe before training are larger."""
    tokens = 6016
    need = estimate(tiny_model("llama").config, TrainConfig(precision="fp32"))
    masks = need.probe if probed else need.pair
    block = 3 * QUERIES * 4 * 4  # at a node: the scores of attention's backward pass, of four heads
    process = processes.Process(tmp_path, train_on_a_long_row, tokens, probed)
    assert process.wait() == 0, process.stderr
    grown = int(process.stdout.splitlines()[-1])
    assert masks * tokens**2 < grown < 1.2 * (masks * tokens**2 + (need.node + block) * tokens) + 2**25


def differentiate_parts(parts: int, precision: Precision) -> None:
    """Print the bytes by which the peak grew while the gradient of a wide model was summed over so many forwards."""
    model = tiny_model("llama", **WIDE)
    made = Learner(model, Collator("tree", 0, 0.0, 8), TrainConfig(precision=precision), 1)
    before = machine.peak_memory()
    made.accumulate([long_row(8, number) for number in range(parts)], 0)
    print(machine.peak_memory() - before)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("parts", [1, 3])
def test_a_gradient_takes_what_was_estimated(parts: int, precision: Precision, tmp_path: Path) -> None:
    """Where an update takes several forwards, their sum in fp32 lies beside the gradient of the one at work."""
    if precision == "bf16" and not native_bf16():
        pytest.skip("this processor has no native bf16")
    need = estimate(tiny_model("llama", **WIDE).config, TrainConfig(precision=precision))
    held = (need.of_several() if parts > 1 else need).gradients
    process = processes.Process(tmp_path, differentiate_parts, parts, precision)
    assert process.wait() == 0, process.stderr
    grown = int(process.stdout.splitlines()[-1])
    assert 0.9 * held < grown < 1.1 * held + 2**26


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_room_is_what_fits(kind: str) -> None:
    need = estimate(tiny_model(kind).config, TrainConfig(precision="fp32"))
    for nodes in (10, 1_000, 100_000):
        assert need.room(need.at(nodes, 0.5), 0.5) in (nodes - 1, nodes)


def test_the_masks_of_a_forward_are_gone_before_the_next_is_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an update of many forwards holds the masks of all of them."""
    masks: list[weakref.ref[torch.Tensor]] = []
    layout = batch.tree_batch

    def watched(*arguments: Any) -> Batch:
        assert [mask() for mask in masks] == [None] * len(masks)
        made = layout(*arguments)
        masks.append(weakref.ref(made.attention))
        return made

    monkeypatch.setitem(batch.LAYOUTS, "tree", watched)
    model = tiny_model("llama")
    assert attend_by_tree(model, 40)
    made = Learner(model, Collator("tree", 0, 0.0, 40), TrainConfig(precision="fp32"), 1)
    rows = [long_row(40, number) for number in range(4)]
    made.accumulate(rows, 0)
    made.validate(rows)
    assert len(masks) == 2 + 4 + 4 - 1


def test_too_much_is_refused_with_the_nearest_setting_that_fits(tmp_path: Path) -> None:
    made = session(tmp_path)
    model, config, ready = tiny_model("llama").config, made.config, made.ready
    need = estimate(model, config.train)
    assert fit_to_memory(config, model, ready, 2**40).encode.batch_tokens == 4096
    some = fit_to_memory(config, model, ready, need.at(200, 1.0)).encode.batch_tokens
    assert isinstance(some, int) and 200 <= some < 4096
    with pytest.raises(RunError, match=r"GiB are free.*(method=lora|max_tokens|smaller model)"):
        fit_to_memory(config, model, ready, need.fixed)


def test_an_update_that_takes_several_forwards_leaves_them_less_room(tmp_path: Path) -> None:
    made = session(tmp_path)
    model, config, ready = tiny_model("llama").config, made.config, made.ready
    need, update = estimate(model, config.train), largest_update(config, ready)
    assert ready.longest < update < MOST_TOKENS
    free = need.at(update, predicting(config, ready))
    assert fit_to_memory(config, model, ready, free + need.node).encode.batch_tokens >= update
    parted = fit_to_memory(config, model, ready, free - 2 * (need.node + need.logits)).encode.batch_tokens
    assert parted < update - 4


def test_an_update_of_few_padded_rows_is_no_full_one(tmp_path: Path) -> None:
    made = session(tmp_path, "encode.layout=padded", "train.batch_size=64", rows=5)
    assert largest_update(made.config, made.ready) == 5 * made.ready.longest


def test_the_setting_that_is_named_fits(tmp_path: Path) -> None:
    made = session(tmp_path)
    model, ready = tiny_model("llama").config, made.ready
    need, share, update = (
        estimate(model, made.config.train),
        predicting(made.config, ready),
        largest_update(made.config, ready),
    )
    advised = 0
    for free in range(need.fixed, need.of_several().at(update, share) + 2**20, 2**15):
        asked = override(made.config, {"encode.batch_tokens": 4096})
        try:
            fit_to_memory(asked, model, ready, free)
        except RunError as error:
            if found := re.search(r"Set (encode\.batch_tokens)=(\d+)", error.fix):
                advised += 1
                fit_to_memory(override(asked, {found[1]: int(found[2])}), model, ready, free)
        else:
            assert need.at(update, share) <= free
    assert advised > 3


def test_shared_weights_and_layers_computed_again_need_less() -> None:
    """A rank's share of masters is what remains; of a node, each layer's input and one layer's insides."""
    model = tiny_model("llama", num_hidden_layers=8).config
    plain = estimate(model, TrainConfig(), "bf16")
    shared = estimate(model, TrainConfig(sharding="full"), "bf16", ranks=4)
    assert shared.masters == plain.masters // 4
    assert shared.gradients == plain.gradients * 2 // 4  # in fp32
    assert shared.weights < plain.weights * 2  # what is gathered, with gradients; a tiny model's head is most of it
    again = estimate(model, TrainConfig(activation_checkpointing=True), "bf16")
    inputs = 8 * model.hidden_size * 2
    assert inputs + plain.node // 8 <= again.node < plain.node // 2
    assert (again.weights, again.masters) == (plain.weights, plain.masters)


@pytest.mark.parametrize("kind", [ALIBI, EXPERTS])
def test_models_that_cannot_be_looked_into_are_trained(
    kind: str, rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One refuses a mask of nodes, the other numbers without values: neither may end the run. Answers are slow, and it
    is said; they are written as the run's own settings say."""
    tiny_model(kind).save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    assert estimate(tiny_model(kind).config, TrainConfig(precision="fp32")).node > 0
    settings = {"train.max_steps": 2, "evaluate.after_training": False, "generate.max_tokens": 3}
    settings |= {"encode.template": "chatml"}
    run = heedful.train(rows_file, model=tmp_path / "model", out=tmp_path / "run", settings=settings)
    assert (run.model / "model.safetensors").is_file()
    capsys.readouterr()
    for answers in (heedful.generate(run, ["Count."]), heedful.load(run).generate(["Count."])):
        assert len(answers[0].token_ids) <= 3
    assert "computed by transformers" in capsys.readouterr().err


def test_what_every_token_predicts_needs_memory_for_all(tmp_path: Path) -> None:
    made = session(tmp_path)
    assert heaviest(made.config, made.ready)[1] <= predicting(made.config, made.ready) < 1
    for changed in ({"supervise": "all"}, {"prompt_weight": 0.1}, {"layout": "padded"}):
        encode = made.config.encode.model_copy(update=changed)
        assert predicting(made.config.model_copy(update={"encode": encode}), made.ready) == 1
