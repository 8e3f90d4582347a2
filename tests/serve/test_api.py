"""What OpenAI's clients read: the shapes of answers, streams to the byte, sampling that means what it says."""

from __future__ import annotations

import math
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.generate.conftest import Bytes
from tests.models import byte_tokenizer
from tests.serve.conftest import CHAT, Saying, asking, events_of, said_in, serving

from heedful.generate.engine import Engine
from heedful.records import Sampling

HARD = 'naïve 世界 👩‍🚀🇫🇷 \x1b[31m"q"\\ \u202e\u2028\u2029\x85 end'


def content(client: TestClient, **fields: Any) -> str:
    reply = client.post(CHAT, json=asking(**fields))
    assert reply.status_code == 200, reply.text
    text: str = reply.json()["choices"][0]["message"]["content"]
    return text


def test_an_answer_has_openai_s_shape(client: TestClient, engine: Engine) -> None:
    reply = client.post(CHAT, json=asking(model="tiny", max_tokens=7)).json()
    expected = engine.generate(["Hello"], Sampling(max_tokens=7))[0]
    assert reply["object"] == "chat.completion"
    assert reply["model"] == "tiny"
    assert reply["id"].startswith("chatcmpl-")
    message = {"role": "assistant", "content": expected.text, "refusal": None}
    assert reply["choices"] == [{"index": 0, "message": message, "logprobs": None, "finish_reason": "length"}]
    assert reply["usage"] == {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}


def test_a_stream_is_the_answer_to_the_byte() -> None:
    with serving({"m": Saying(HARD)}) as client:  # of its characters some end a line for some clients
        assert content(client) == HARD
        for usage in (False, True):
            options = {"stream_options": {"include_usage": True}} if usage else {}
            reply = client.post(CHAT, json=asking(stream=True, **options))
            assert reply.headers["content-type"].startswith("text/event-stream")
            assert reply.text.isascii() and "\ufffd" not in reply.text
            events = events_of(reply.text)
            assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
            assert said_in(events) == HARD
            last = events[-3 if usage else -2]
            assert last["choices"][0]["delta"] == {} and last["choices"][0]["finish_reason"] == "stop"
            assert events[-1] == "[DONE]"
            if usage:
                assert events[-2]["choices"] == []
                assert events[-2]["usage"]["completion_tokens"] == len(HARD.encode())
                assert all(event["usage"] is None for event in events[:-2])
            else:
                assert all("usage" not in event for event in events[:-1])


@pytest.mark.parametrize(("stop", "text"), [("界 👩", "naïve 世"), (["zz", "q", "世界"], "naïve "), ("end!", HARD)])
def test_stop_strings_never_show(stop: Any, text: str) -> None:
    with serving({"m": Saying(HARD)}) as client:
        assert content(client, stop=stop) == text
        assert said_in(events_of(client.post(CHAT, json=asking(stop=stop, stream=True)).text)) == text


def test_an_unfinished_character_is_left_out() -> None:
    with serving({"m": Saying("a世")}) as client:
        assert content(client, max_tokens=3) == "a"
        events = events_of(client.post(CHAT, json=asking(max_tokens=3, stream=True)).text)
        assert (said_in(events), events[-2]["choices"][0]["finish_reason"]) == ("a", "length")


def test_seeds_repeat_and_choices_differ(client: TestClient) -> None:
    def choices(**fields: Any) -> list[str]:
        reply = client.post(CHAT, json=asking(max_tokens=12, temperature=1.5, **fields)).json()
        assert [choice["index"] for choice in reply["choices"]] == list(range(fields.get("n", 1)))
        return [choice["message"]["content"] for choice in reply["choices"]]

    three = choices(n=3, seed=5)
    assert three == choices(n=3, seed=5)
    assert len(set(three)) == 3
    assert choices(seed=5) == three[:1] and choices(seed=6) == three[1:2]
    assert choices() != choices()  # without a seed each time another


def test_settings_change_what_is_sampled(client: TestClient) -> None:
    greedy = content(client, max_tokens=20)
    hot = {"temperature": 2, "seed": 1, "max_tokens": 20}
    assert content(client, **hot, top_k=1) == content(client, **hot, min_p=1.0) == greedy
    assert content(client, **hot, top_p=1e-6) == content(client, **hot, top_p=0) == greedy
    assert content(client, **hot) != greedy
    assert content(client, max_tokens=20, temperature=1e-9, seed=3) == greedy
    assert content(client, max_tokens=20, top_k=-1, temperature=None) == greedy


def test_penalties_mean_what_openai_says(client: TestClient) -> None:
    """What each takes off a logit is tested in tests/generate; here, that they arrive."""
    a = ord("a")
    greedy = content(client, max_tokens=30)
    for penalty in ("presence_penalty", "frequency_penalty"):
        assert content(client, max_tokens=30, **{penalty: 2}) != greedy
    assert content(client, logit_bias={str(a): 100}, max_tokens=4) == "aaaa"
    assert content(client, logit_bias={str(a): -100}, max_tokens=30).count("a") == 0
    repeated = content(client, max_tokens=30, repetition_penalty=10.0)
    assert len(set(repeated)) > len(set(content(client, max_tokens=30)))


def test_logprobs_are_those_of_the_model_and_cover_the_text(client: TestClient) -> None:
    asked = asking(max_tokens=9, logprobs=True, top_logprobs=3, temperature=1.3, seed=2)
    choice = client.post(CHAT, json=asked).json()["choices"][0]
    noted = choice["logprobs"]["content"]
    assert (
        b"".join(bytes(entry["bytes"] or []) for entry in noted)
        .decode("utf-8", "replace")
        .startswith(choice["message"]["content"][:3])
    )
    for entry in noted:
        assert entry["logprob"] <= 0 and len(entry["top_logprobs"]) == 3
        values = [other["logprob"] for other in entry["top_logprobs"]]
        assert values == sorted(values, reverse=True) and sum(map(math.exp, values)) <= 1.0001
    events = events_of(client.post(CHAT, json={**asked, "stream": True}).text)
    streamed = [e for event in events[:-1] for c in event["choices"] if c["logprobs"] for e in c["logprobs"]["content"]]
    assert streamed == noted
    assert (
        client.post(CHAT, json=asking(max_tokens=2, logprobs=True)).json()["choices"][0]["logprobs"]["content"][0][
            "top_logprobs"
        ]
        == []
    )


def test_a_character_of_many_tokens_is_told_by_its_bytes() -> None:
    with serving({"m": Saying("a世b")}) as client:
        noted = client.post(CHAT, json=asking(logprobs=True)).json()["choices"][0]["logprobs"]["content"]
        assert [bytes(entry["bytes"]) for entry in noted] == [b"a", *[bytes([byte]) for byte in "世".encode()], b"b"]
        cut = client.post(CHAT, json=asking(logprobs=True, stop="b")).json()["choices"][0]["logprobs"]["content"]
        assert len(cut) == 4


def test_plain_completions_tell_where_each_token_begins() -> None:
    """Tokens that are parts of one character begin where it does, and are named by their bytes, each apart."""
    parts = [f"bytes:\\x{byte:02x}" for byte in "世".encode()]
    body = {"prompt": "x", "logprobs": 5, "max_tokens": 9}
    with serving({"m": Saying("é世b😀c")}) as client:
        choice = client.post("/v1/completions", json=body).json()["choices"][0]
        events = events_of(client.post("/v1/completions", json={**body, "max_tokens": 40, "stream": True}).text)
    noted = choice["logprobs"]
    assert noted["tokens"][2:6] == [*parts, "b"]
    assert noted["text_offset"][:6] == [0, 0, 1, 1, 1, 2]
    assert [len(top) for top in noted["top_logprobs"]] == [5] * len(noted["tokens"])
    assert not any("\ufffd" in token for top in noted["top_logprobs"] for token in top)
    streamed = [c["logprobs"] for event in events[:-1] for c in event["choices"] if c["logprobs"]]
    assert [at for part in streamed for at in part["text_offset"]] == [0, 0, 1, 1, 1, 2, 3, 3, 3, 3, 4]
    assert streamed[-1]["tokens"] == ["c"]


def test_roles_and_parts_reach_the_prompt(client: TestClient, engine: Engine) -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "two"}]},
        {"role": "assistant", "content": "Yes.", "refusal": None, "annotations": [], "tool_calls": None},
        {"role": "user", "content": "", "name": "Ann"},
    ]
    reply = client.post(CHAT, json={"messages": messages, "max_tokens": 5}).json()
    expected = engine.generate(["Be brief.OnetwoYes."], Sampling(max_tokens=5))[0]
    assert reply["choices"][0]["message"]["content"] == expected.text
    assert reply["usage"]["prompt_tokens"] == expected.prompt_tokens


@pytest.mark.parametrize("refusal", [{}, {"refusal": "I cannot."}])
def test_an_answer_without_content_is_an_empty_one(client: TestClient, refusal: dict[str, str]) -> None:
    """Clients send a conversation back with what they got, and some servers' answers have no text."""

    def prompt_of(said: str | None) -> int:
        answered = {"role": "assistant", "content": said, **refusal}
        messages = [{"role": "user", "content": "One"}, answered, {"role": "user", "content": "two"}]
        reply = client.post(CHAT, json={"messages": messages, "max_tokens": 5})
        assert reply.status_code == 200, reply.text
        tokens: int = reply.json()["usage"]["prompt_tokens"]
        return tokens

    assert prompt_of(None) == prompt_of("") == len("Onetwo")


def test_plain_completions(client: TestClient, engine: Engine) -> None:
    texts = ["Hello", "Good day"]
    expected = [answer.text for answer in engine.generate(texts, Sampling(max_tokens=6))]
    body = {"prompt": texts, "max_tokens": 6}
    reply = client.post("/v1/completions", json=body).json()
    assert reply["object"] == "text_completion"
    assert [choice["text"] for choice in reply["choices"]] == expected
    ids = [[*text.encode()] for text in texts]
    assert client.post("/v1/completions", json={**body, "prompt": ids}).json()["choices"] == reply["choices"]
    one = client.post("/v1/completions", json={**body, "prompt": ids[0], "logprobs": 2}).json()["choices"][0]
    assert one["text"] == expected[0]
    assert {len(one["logprobs"][name]) for name in one["logprobs"]} == {len(one["logprobs"]["tokens"])}
    events = events_of(client.post("/v1/completions", json={**body, "stream": True}).text)
    pieces = [(c["index"], c["text"]) for event in events[:-1] for c in event["choices"]]
    assert ["".join(text for i, text in pieces if i == place) for place in (0, 1)] == expected


def test_a_text_that_names_a_token_beyond_the_model_is_refused_as_its_id_is(engine: Engine) -> None:
    """As Gemma 3's `<image_soft_token>` in its models of text."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    with serving({"tiny": Engine(engine.model, Bytes(tokenizer), "tiny")}) as client:
        for prompt in ("hi <image> x", [104, 259]):
            reply = client.post("/v1/completions", json={"prompt": prompt})
            assert reply.status_code == 400
            error = reply.json()["error"]
            assert (error["message"], error["param"]) == ("The model has no token 259: its ids end at 258.", "prompt")


def test_choices_of_several_prompts_have_seeds_of_their_own(client: TestClient) -> None:
    body = {"prompt": ["Hello", "Hello"], "n": 2, "temperature": 1.5, "seed": 5, "max_tokens": 12}
    texts = [choice["text"] for choice in client.post("/v1/completions", json=body).json()["choices"]]
    assert len(set(texts)) == 4
    third = client.post("/v1/completions", json={**body, "prompt": "Hello", "n": 1, "seed": 7}).json()["choices"]
    assert third[0]["text"] == texts[2]


def test_exactly_the_context_fits(client: TestClient, engine: Engine) -> None:
    room = engine.positions - len("Hello")
    reply = client.post(CHAT, json=asking(max_tokens=room)).json()
    assert reply["usage"]["total_tokens"] == engine.positions
    refused = client.post(CHAT, json=asking(max_tokens=room + 1))
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert f"{engine.positions} tokens" in error["message"] and f"{room + 1} more" in error["message"]
    assert client.post(CHAT, json=asking("x" * 127)).json()["usage"]["completion_tokens"] == 1
    turns = [{"role": "user", "content": "x"}] * 257
    for body in (asking("x" * 128), asking("x" * 100_000), {"messages": turns}):
        refused = client.post(CHAT, json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")


def test_tokenize_models_health_and_metrics(client: TestClient) -> None:
    tokens = client.post("/tokenize", json={"prompt": "hi世"}).json()
    assert (tokens["count"], tokens["tokens"], tokens["max_model_len"]) == (5, [*"hi世".encode()], 128)
    assert client.post("/tokenize", json=asking("hi")).json()["tokens"] == [*b"hi"]
    listed = client.get("/v1/models").json()
    assert [model["id"] for model in listed["data"]] == ["tiny", "tiny-base"] and listed["object"] == "list"
    assert client.get("/v1/models/tiny-base").json() == listed["data"][1]
    assert client.get("/health").json() == {"status": "ok"}
    content(client, max_tokens=3)
    metrics = client.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert 'heedful_tokens_total{model="tiny",kind="completion"} 3' in metrics.text
    assert 'heedful_first_token_seconds_bucket{le="+Inf"} 1' in metrics.text
    assert 'route="/v1/models/{name:path}",status="200"' in metrics.text


def test_defaults_hold_where_a_request_says_nothing(engine: Engine) -> None:
    with serving({"m": engine}, defaults=Sampling(temperature=2.0, seed=4, stop=("7",))) as client:
        assert content(client, max_tokens=20) != content(client, max_tokens=20, temperature=0)
        assert "7" not in content(client, max_tokens=100, temperature=0)
        assert "7" not in content(client, max_tokens=100, temperature=0, stop=None)
        assert "7" in content(client, max_tokens=100, temperature=0, stop=[])
