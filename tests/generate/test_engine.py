"""One engine: it answers as transformers does, and the same alone, in a batch, streamed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.generate.conftest import Bytes, shared_engine
from tests.models import ALIBI, CACHELESS, CONVOLVED, KINDS, LEARNED, LOCAL, POSITIONS, WINDOWED, tiny_model
from transformers import PreTrainedModel

from heedful.errors import ModelError, UsageError
from heedful.generate import forward
from heedful.generate.engine import Engine, RunningBatch
from heedful.generate.forward import Padded
from heedful.generate.row import Row
from heedful.generate.text import TextStream
from heedful.records import Completion, Message, Sampling

PROMPTS = ["a", "What is seven times eight?", "Sort: pear, fig", "x" * 50, "Name a colour.", "世界"]
PREAMBLE = [f"Below is an instruction. {prompt}" for prompt in PROMPTS]
HOT = Sampling(max_tokens=40, temperature=2.0, seed=1)
SAMPLED = Sampling(max_tokens=12, temperature=1.5, top_k=40, top_p=0.9, repetition_penalty=1.2, stop=("zq",))


def reference(model: PreTrainedModel, ids: list[int], **options: object) -> list[int]:
    """Decode greedily with transformers' own generate; give the answer's ids without the stop token."""
    output = model.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), do_sample=False, pad_token_id=0, **options
    )
    answer = output[0, len(ids) :].tolist()
    return answer[:-1] if answer[-1] == 258 else answer


@pytest.mark.parametrize("kind", [*KINDS, WINDOWED, ALIBI, LEARNED, CACHELESS, LOCAL, CONVOLVED])
@pytest.mark.parametrize("prompts", [PROMPTS, PREAMBLE], ids=["different", "shared beginning"])
def test_greedy_answers_are_transformers_own(kind: str, prompts: list[str]) -> None:
    engine = shared_engine(kind)
    answers = engine.generate(prompts, Sampling(max_tokens=20))
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = engine.prompter.prompt_ids([Message("user", prompt)])
        assert list(answer.token_ids) == reference(engine.model, ids, max_new_tokens=20)
        assert answer.prompt_tokens == len(ids)


def test_penalised_answers_are_transformers_own() -> None:
    engine = shared_engine("llama")
    ids = engine.prompter.prompt_ids([Message("user", PROMPTS[0])])
    answer = engine.generate([PROMPTS[0]], Sampling(max_tokens=20, repetition_penalty=1.7))[0]
    assert list(answer.token_ids) == reference(engine.model, ids, max_new_tokens=20, repetition_penalty=1.7)
    assert list(answer.token_ids) != reference(engine.model, ids, max_new_tokens=20)


@pytest.mark.parametrize("kind", [*KINDS, WINDOWED, ALIBI, LEARNED, CACHELESS, LOCAL, CONVOLVED])
@pytest.mark.parametrize("sampling", [Sampling(max_tokens=12), SAMPLED], ids=["greedy", "sampled"])
def test_an_answer_is_the_same_alone_in_any_batch_and_streamed(kind: str, sampling: Sampling) -> None:
    engine = shared_engine(kind)
    samplings = [replace(sampling, seed=seed) for seed in range(len(PREAMBLE))]
    together = engine.generate(PREAMBLE, samplings)
    in_pairs = engine.generate(PREAMBLE, samplings, batch_size=2)
    for i, answer in enumerate(together):
        *pieces, streamed = engine.stream(PREAMBLE[i], samplings[i])
        assert answer.token_ids == in_pairs[i].token_ids == streamed.token_ids  # type: ignore[union-attr]
        assert answer.text == in_pairs[i].text == "".join(map(str, pieces))
        assert answer.finish_reason == in_pairs[i].finish_reason == streamed.finish_reason  # type: ignore[union-attr]


def test_noise_of_batches_is_ruled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits that differ by batch, by less than half the tolerance, give the same answers; by rule, not by luck."""
    engine = Engine(tiny_model("gpt_neox"), Bytes(stop=()))
    engine.tolerance = 1.0

    def noisy(original: object) -> object:
        def run(*arguments: object) -> torch.Tensor:
            logits = original(*arguments)  # type: ignore[operator]
            return logits + torch.rand(logits.shape, generator=torch.Generator().manual_seed(len(logits))) * 0.49

        return run

    for name in ("join", "step"):
        monkeypatch.setattr(Padded, name, noisy(getattr(Padded, name)))
    recomputed: list[int] = []  # the lengths of rows whose next token was doubtful

    def counted(model: PreTrainedModel, tokens: list[int]) -> torch.Tensor:
        recomputed.append(len(tokens))
        return forward.unbatched_logits(model, tokens)

    monkeypatch.setattr("heedful.generate.engine.unbatched_logits", counted)

    def both_ways() -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        samplings = [Sampling(max_tokens=10, temperature=i % 2, seed=i) for i in range(len(PROMPTS))]
        together = engine.generate(PROMPTS, samplings)
        alone = [engine.generate([prompt], s)[0] for prompt, s in zip(PROMPTS, samplings, strict=True)]
        return [a.token_ids for a in together], [a.token_ids for a in alone]

    together, alone = both_ways()
    assert together == alone
    assert 0 < len(recomputed) < sum(map(len, together + alone))
    engine.tolerance = 0.0
    together, alone = both_ways()
    assert together != alone


@pytest.mark.parametrize("kind", ["llama", "gpt_neox"])
def test_rows_leave_when_they_stop(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(tiny_model(kind), Bytes(stop=()))
    widths = []
    batch = type(RunningBatch(engine)._batch)
    step = batch.step
    monkeypatch.setattr(batch, "step", lambda self, tokens: widths.append(len(tokens)) or step(self, tokens))
    caps = [1, 7, 3, 7, 2, 5]
    answers = engine.generate(PROMPTS, [Sampling(max_tokens=cap) for cap in caps])
    assert [len(answer.token_ids) for answer in answers] == caps
    assert widths == [5, 4, 3, 3, 2, 2]
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        alone = engine.generate([prompt], Sampling(max_tokens=len(answer.token_ids)))[0]
        assert answer.token_ids == alone.token_ids


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox", LEARNED, CACHELESS, LOCAL, CONVOLVED])
@pytest.mark.parametrize("sampling", [Sampling(max_tokens=12), SAMPLED], ids=["greedy", "sampled"])
def test_rows_may_join_late_and_be_dropped(kind: str, sampling: Sampling) -> None:
    engine = shared_engine(kind)
    expected = [engine.generate([prompt], sampling)[0] for prompt in PREAMBLE]
    rows = [engine.row(i, prompt, sampling) for i, prompt in enumerate(PREAMBLE)]
    running = RunningBatch(engine)
    events = running.join(rows[:2])
    events += running.step()
    events += running.join(rows[2:5])
    events += running.step()
    running.drop([rows[0], rows[3]])
    events += running.join(rows[5:])
    while running.rows:
        events += running.step()
    answers = {event.row: event.completion for event in events if event.completion}
    assert {1, 2, 4, 5} <= answers.keys()
    for i, answer in answers.items():
        assert answer.token_ids == expected[i].token_ids


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gpt2"])
def test_in_bf16_an_answer_is_the_same_in_any_company(kind: str) -> None:
    engine = Engine(tiny_model(kind), Bytes(), dtype=torch.bfloat16)
    if engine.decoder is None:
        pytest.skip("this processor's bf16 kernels did not pass the probe")
    prompts = [f"{prompt} {i}" for i in range(7) for prompt in PREAMBLE]
    samplings = [Sampling(max_tokens=10, temperature=i % 2, seed=i) for i in range(len(prompts))]
    together = engine.generate(prompts, samplings)
    assert [a.token_ids for a in together] == [a.token_ids for a in engine.generate(prompts, samplings, batch_size=5)]
    for i in range(0, len(prompts), 6):
        assert engine.generate([prompts[i]], samplings[i])[0].token_ids == together[i].token_ids


def test_a_stop_id_ends_an_answer_and_stays_out_of_it(engine: Engine) -> None:
    free = engine.generate(["Hello"], Sampling(max_tokens=10))[0]
    stop = free.token_ids[6]
    first = free.token_ids.index(stop)
    stopped = Engine(engine.model, Bytes(stop=[stop])).generate(["Hello"], Sampling(max_tokens=10))[0]
    assert (stopped.token_ids, stopped.finish_reason) == (free.token_ids[:first], "stop")
    assert (len(free.token_ids), free.finish_reason) == (10, "length")


def test_a_stop_string_ends_an_answer_and_its_text(engine: Engine) -> None:
    free = engine.generate(["Hello"], HOT)[0].text
    stop = next(free[i : i + 2] for i in range(4, len(free)) if free[i : i + 2].isascii())
    *pieces, answer = engine.stream("Hello", replace(HOT, stop=("never", stop)))
    assert isinstance(answer, Completion)
    assert answer.text == "".join(map(str, pieces)) == free[: free.index(stop)]
    assert answer.finish_reason == "stop"
    assert len(answer.token_ids) < HOT.max_tokens


def test_what_was_held_back_is_given_out_at_the_length_cap(engine: Engine) -> None:
    free = engine.generate(["Hello"], HOT)[0].text
    *pieces, answer = engine.stream("Hello", replace(HOT, stop=(free[-1] + "never",)))
    assert isinstance(answer, Completion)
    assert answer.text == "".join(map(str, pieces)) == free
    assert answer.finish_reason == "length"


def test_a_seed_is_a_requests_own(engine: Engine) -> None:
    """The same seed gives the same answer whatever else is drawn; another seed another."""
    before = torch.get_rng_state()
    first, again, other = engine.generate(["Hello"] * 3, [HOT, HOT, replace(HOT, seed=2)])
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(5)
    assert first.token_ids == again.token_ids == engine.generate(["Hello"], HOT)[0].token_ids
    assert first.token_ids != other.token_ids


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_an_answer_ends_at_the_models_last_position(kind: str) -> None:
    engine = shared_engine(kind)
    answer = engine.generate(["x" * (POSITIONS - 3)], Sampling(max_tokens=50))[0]
    assert (len(answer.token_ids), answer.finish_reason) == (3, "length")


def test_a_prompt_that_fills_the_model_is_refused_with_both_numbers(engine: Engine) -> None:
    with pytest.raises(ModelError, match=f"prompt of {POSITIONS} tokens .* {POSITIONS} positions"):
        engine.generate(["fine", "x" * POSITIONS])


def test_impossible_sampling_is_refused_all_at_once(engine: Engine) -> None:
    with pytest.raises(UsageError, match=r"max_tokens=0 .*, temperature=-1 .*, top_p=0 "):
        engine.generate(["a"], Sampling(max_tokens=0, temperature=-1, top_p=0))


def test_a_model_that_computes_nan_is_named(engine: Engine) -> None:
    engine.model.get_output_embeddings().weight.data.fill_(float("nan"))
    engine = Engine(engine.model, engine.prompter)
    with pytest.raises(ModelError, match="NaN"):
        engine.generate(["a"])


def test_results_stand_in_the_order_of_the_prompts_and_are_counted(engine: Engine) -> None:
    heard: list[int] = []
    answers = engine.generate(PROMPTS, Sampling(max_tokens=2), batch_size=4, on_done=heard.append)
    assert [a.prompt_tokens for a in answers] == [len(p.encode()) for p in PROMPTS]
    assert heard == [1, 2, 3, 4, 5, 6]
    assert engine.generate([]) == []


def test_messages_are_prompts_too(engine: Engine) -> None:
    talk = [Message("user", "Hel"), Message("assistant", "lo")]
    first, second = engine.generate([talk, "Hello"], Sampling(max_tokens=4))
    assert first.token_ids == second.token_ids


def test_dropout_is_off_for_the_answer_and_on_again_behind_it() -> None:
    model = tiny_model("gpt2", resid_pdrop=0.5)
    engine = Engine(model, Bytes())
    still = engine.generate(PROMPTS, Sampling(max_tokens=8))
    model.train()
    assert [a.token_ids for a in engine.generate(PROMPTS, Sampling(max_tokens=8))] == [a.token_ids for a in still]
    assert model.training


def test_a_batch_takes_rows_while_their_cache_is_bounded(engine: Engine) -> None:
    def row(prompt_tokens: int, limit: int) -> Row:
        return Row(0, [0], prompt_tokens, Sampling(), limit, TextStream(engine.prompter.tokenizer))

    rows = [row(20_000, 100), row(15_000, 100), row(9, 10), row(7, 10), row(5, 10)]
    running = RunningBatch(engine)
    assert [running.room(rows[start:], 2) for start in range(5)] == [1, 2, 2, 2, 1]
    running.rows = rows[2:4]
    assert running.room(rows[4:], 8) == 1
    assert running.room(rows[:1], 8) == 0  # it would need 3 * 20,100 columns
    assert running.room(rows[4:], 2) == 0
    running._batch.exact = False  # rows that are padded together
    assert running.room(rows[4:], 8) == 0
