"""The pieces that figures rest on: the tutorial's batches, the counted products, the made data, the GGUF order."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmarks.claims import ratio, serving_ratio
from benchmarks.contestants.trainer_training import pad
from benchmarks.contestants.tutorial_training import collate
from benchmarks.flops import update_flops
from benchmarks.races import RACES
from benchmarks.results import FP32
from tests.models import tiny_model
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import documents, results
from heedful.encode.batch import Collator
from heedful.records import TokenizedExample
from heedful.train.loss import summed_nll

README = Path(__file__).parents[2] / "README.md"
UPDATES, ANSWERS, STREAM = "smollm2", "answers", "stream"
CELLS = {  # a row of the README's table -> the race, and who is how many times as slow as whom, on Xeon and EPYC
    "training SmolLM2-135M, against TRL at its best settings": (UPDATES, ("trl", "heedful tree")),
    "the same, against transformers' Trainer": (UPDATES, ("transformers Trainer", "heedful tree")),
    "the same with nothing shared (heedful pads its rows, TRL does not), against TRL": (
        UPDATES, ("trl", "heedful padded"),
    ),
    "training on every token, against the tutorial's loop (in fp32 on both)": (
        UPDATES, ("tutorial", "heedful tree, all tokens"),
    ),
    "training on a long document with 8 questions: computing it once, against once per question": (
        "one_document", ("heedful padded", "heedful tree"),
    ),
    "answers to 110 prompts, against transformers at its best batch size": (
        ANSWERS, ("transformers at its best", "heedful"),
    ),
    "one stream of tokens, against transformers (bf16 against bf16, fp32 against fp32)": (
        STREAM, ("transformers, bf16", "heedful, bf16"), ("transformers, fp32", "heedful, fp32"),
    ),
    "the same, against llama.cpp": (
        STREAM, ("llama.cpp, bf16", "heedful, bf16"), ("llama.cpp, fp32", "heedful, fp32"),
    ),
}  # fmt: skip


def test_the_readme_states_what_was_measured() -> None:
    stored = [{race.name: results.load(race.name, folder) for race in RACES} for folder in (results.FOLDER, FP32)]
    stored = [{name: found for name, found in some.items() if found} for some in stored]
    lines = README.read_text(encoding="utf-8").splitlines()
    for what, (race, on_xeon, *on_epyc) in CELLS.items():
        pairs = (on_xeon, on_epyc[0] if on_epyc else on_xeon)
        found = [ratio(race, *pair)(some) for pair, some in zip(pairs, stored, strict=True)]
        assert f"| {what} | " + " | ".join(f"{one.median:.2f}x" for one in found if one) + " |" in lines
    alone = ratio(STREAM, "transformers, fp32", "heedful, fp32")(stored[0])
    assert alone and any(line.endswith(f"against transformers in fp32: {alone.median:.2f}x.") for line in lines)
    figure = "8_streams_tokens_per_s"
    served_by = serving_ratio(figure, figure, "heedful", "transformers")
    served = [served_by({"serve": results.load("serve", folder)}) for folder in (results.FOLDER, FP32)]
    cells = " | ".join(f"{one.median:.2f}x" for one in served if one)
    assert f"| eight streams served, against `transformers serve` | {cells} |" in lines


@pytest.mark.parametrize(("folder", "kind"), [(results.FOLDER, "bf16"), (FP32, "fp32")])
def test_the_readme_says_how_trl_fares_where_freed_pages_stay(folder: Path, kind: str) -> None:
    search, race = results.load("trl_search", folder), results.load("smollm2", folder)
    (kept,) = results.figures(search["rounds"], f"{kind}, fused AdamW, padding-free, glibc keeps pages")
    ours = results.spread(results.figures(race["rounds"], "heedful tree")).median
    told = README.read_text(encoding="utf-8")
    assert f"{kept:.2f} s" in told and f"{ours:.2f} s" in told and f"about {kept / ours:.1f}x" in told


@pytest.mark.parametrize(
    ("folder", "trainer", "trl", "helped"),
    [
        (
            FP32,
            "heedful is {}x as fast as the Trainer",
            "and {}x as fast as TRL ([race",
            "{}x as fast as TRL so helped",
        ),
        (
            results.FOLDER,
            "it is {}x as fast as the Trainer",
            "and {}x as fast as TRL ([the same",
            "{}x on the later EPYC",
        ),
    ],
)
def test_the_readme_says_how_rows_fare_that_share_next_to_nothing(
    folder: Path, trainer: str, trl: str, helped: str
) -> None:
    apart = {"apart": results.load("apart", folder)}
    told = " ".join(README.read_text(encoding="utf-8").split())
    for who, said in {"transformers Trainer": trainer, "trl": trl, "trl, glibc keeps pages": helped}.items():
        found = ratio("apart", who, "heedful tree")(apart)
        assert found and said.format(f"{found.median:.2f}") in told


def test_the_tutorials_batch_learns_all_but_padding() -> None:
    inputs, targets = collate([[1, 2, 3, 9], [4, 5, 9]], pad_id=9)
    assert inputs.tolist() == [[1, 2, 3], [4, 5, 9]]
    assert targets.tolist() == [[2, 3, 9], [5, 9, -100]]


def test_the_trainers_batch_is_padded_and_not_shifted() -> None:
    batch = pad([{"input_ids": [1, 2], "labels": [-100, 2]}, {"input_ids": [3], "labels": [3]}], pad_id=9)
    assert batch["input_ids"].tolist() == [[1, 2], [3, 9]]
    assert batch["labels"].tolist() == [[-100, 2], [3, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("layout", ["tree", "padded"])
def test_the_counted_products_are_those_that_torch_counts(kind: str, layout: str) -> None:
    import numpy as np

    model = tiny_model(kind).train()
    rows = [[1, 2, 3, 4, 5], [1, 2, 3, 6, 7, 8]]
    examples = [
        TokenizedExample(str(i), np.array(ids, np.int32), np.arange(len(ids)) >= 3) for i, ids in enumerate(rows)
    ]
    batch = next(Collator(layout, 0, 0.0, 4096).batches(examples))
    with FlopCounterMode(display=False) as counter:
        summed_nll(model, batch).backward()
    counted = counter.get_flop_counts()["Global"]
    products = sum(flops for op, flops in counted.items() if "attention" not in str(op))
    pairs = batch.attention.sum() if layout == "tree" else sum(n * (n - 1) // 2 for n in map(len, rows))
    attention = 3 * 4 * int(pairs) * 32 * 2  # width 32, two layers
    padded_head = 0
    if layout == "padded":  # the padded layout asks for logits everywhere; the count is of what is needed
        needed = len(torch.unique(batch.predictions.source))
        padded_head = 3 * 2 * 32 * model.config.vocab_size * (batch.input_ids.numel() - needed)
    assert update_flops(model, batch) == products - padded_head + attention


def test_documents_share_their_text_among_eight_questions() -> None:
    rows = documents.questions(documents=3)
    assert rows == documents.questions(documents=3)
    assert len(rows) == 3 * documents.QUESTIONS
    texts = [row["messages"][0]["content"].partition("\n\nQuestion: ")[0] for row in rows]
    assert [texts.index(text) for text in texts] == [0] * 8 + [8] * 8 + [16] * 8
    assert all(len(row["messages"][1]["content"]) < 40 for row in rows)


def test_chats_have_eight_turns() -> None:
    rows = documents.chats(count=5)
    assert all([m["role"] for m in row["messages"]] == ["user", "assistant"] * 4 for row in rows)


def test_rows_apart_share_little_but_their_template() -> None:
    rows = documents.apart(count=64)
    assert [m["role"] for m in rows[0]["messages"]] == ["system", "user", "assistant"]
    assert len({row["messages"][0]["content"] for row in rows}) == 64
