"""Requests that cannot be: each is met with 4xx in OpenAI's shape, names the field, and costs the model nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.serve.conftest import CHAT, asking, refused, serving

from heedful.generate.engine import Engine
from heedful.serve.app import create_app
from heedful.serve.limits import Limits

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.fixture(scope="module")
def strict(engine: Engine) -> Iterator[TestClient]:
    """A client of a server whose model must not be touched."""
    untouched = Engine(engine.model, engine.prompter, "tiny")
    untouched.choose = None  # type: ignore[assignment, method-assign]
    with serving({"tiny": untouched}) as client:
        yield client


FIELDS: list[tuple[str, Any]] = [
    ("messages", []),
    ("messages", None),
    ("messages", "Hello"),
    ("messages.0.role", [{"role": "root", "content": "x"}]),
    ("messages.0.role", [{"content": "x"}]),
    ("messages.0.content", [{"role": "user"}]),
    ("messages.0.content", [{"role": "user", "content": 7}]),
    ("messages.0.content", [{"role": "user", "content": None}]),
    ("messages.0.content", [{"role": "assistant"}]),
    ("messages.0.content.0.type", [{"role": "user", "content": [IMAGE]}]),
    ("messages.0.content.1.text", [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "text"}]}]),
    ("messages.0.contents", [{"role": "user", "content": "x", "contents": "y"}]),
    ("messages.0.content.0.txt", [{"role": "user", "content": [{"type": "text", "text": "x", "txt": "y"}]}]),
    ("messages.0.audio", [{"role": "assistant", "content": "x", "audio": {"id": "a"}}]),
    ("messages.0.tool_calls", [{"role": "assistant", "content": "x", "tool_calls": [TOOL]}]),
    ("messages", [{"role": "user", "content": "x"}] * 257),
    ("temperature", -1),
    ("temperature", float("nan")),
    ("temperature", float("inf")),
    ("temperature", 1e9),
    ("temperature", "hot"),
    ("temperature", True),
    ("top_p", -0.1),
    ("top_p", 1.1),
    ("top_k", -2),
    ("min_p", 2),
    ("max_tokens", 0),
    ("max_tokens", -1),
    ("max_tokens", 1.5),
    ("max_completion_tokens", 0),
    ("n", 0),
    ("n", 1000),
    ("n", 2),  # without a temperature
    ("seed", 2**70),
    ("stop", ""),
    ("stop", ["a"] * 100),
    ("stop.1", ["a", ""]),
    ("presence_penalty", 3),
    ("frequency_penalty", -3),
    ("repetition_penalty", 0),
    ("repetition_penalty", 1e-39),
    ("logit_bias", {"259": 1}),
    ("logit_bias", {"-1": 1}),
    ("logit_bias", {"a": 1}),
    ("logit_bias.5", {"5": 1000}),
    ("logit_bias", {f"{token:0{width}}": 1 for width in (3, 4) for token in range(151)}),
    ("stream_options", {"include_usage": True}),
    ("stream_options.usage", {"usage": True}),
    ("stream", "yes"),
    ("top_logprobs", 3),
    ("logprobs", 3),
    ("model", 5),
    ("tools", [TOOL]),
    ("tool_choice", "required"),
    ("functions", [{"name": "f"}]),
    ("response_format", {"type": "json_object"}),
    ("response_format", {"type": "json_schema", "json_schema": {}}),
    ("modalities", ["text", "audio"]),
    ("audio", {"voice": "alloy", "format": "wav"}),
    ("reasoning_effort", "high"),
    ("chat_template", "{{ messages }}"),
    ("chat_template_kwargs", {"x": 1}),
    ("web_search_options", {}),
    ("temprature", 1),
]


@pytest.mark.parametrize(("param", "value"), FIELDS, ids=lambda part: str(part)[:40])
def test_a_wrong_field_is_named(strict: TestClient, param: str, value: Any) -> None:
    body = asking() | {param.split(".")[0]: value}
    reply = strict.post(CHAT, content=json.dumps(body), headers={"Content-Type": "application/json"})
    error = refused(reply)
    assert error["param"] == param
    assert param.split(".")[0] in error["message"] or "messages" in error["message"] or "choices" in error["message"]


def test_unknown_fields_get_a_suggestion(strict: TestClient) -> None:
    error = refused(strict.post(CHAT, json=asking(temprature=1)))
    assert "Did you mean 'temperature'?" in error["message"] and error["code"] == "unknown_parameter"
    assert refused(strict.post(CHAT, json=asking(tools=[TOOL])))["code"] == "unsupported_parameter"


def test_fields_that_ask_for_nothing_are_accepted(client: TestClient) -> None:
    harmless = {
        "user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "safety_identifier": "s",
        "prompt_cache_key": "k", "parallel_tool_calls": True, "tools": [], "tool_choice": "auto", "n": 1,
        "response_format": {"type": "text"}, "modalities": ["text"], "logit_bias": {}, "stop": None, "seed": None,
        "stream": False, "stream_options": None, "functions": None, "max_completion_tokens": 2, "max_tokens": 2,
    }  # fmt: skip
    assert client.post(CHAT, json=asking(**harmless)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"[1]", b"null", b'"x"', b"\xff\xfe", b'{"messages": [' + b"[" * 100_000, b"{}", b"0" * 5000],
    ids=lambda body: repr(body[:12]),
)
def test_what_is_no_request_is_refused(strict: TestClient, body: bytes) -> None:
    refused(strict.post(CHAT, content=body, headers={"Content-Type": "application/json"}))


def test_lone_surrogates_are_refused(strict: TestClient) -> None:
    body = '{"messages": [{"role": "user", "content": "\\ud800"}]}'
    refused(strict.post(CHAT, content=body, headers={"Content-Type": "application/json"}))


def test_other_content_types_are_refused(strict: TestClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        refused(strict.post(CHAT, content=json.dumps(asking()), headers={"Content-Type": kind}))


def test_unknown_models_and_routes(strict: TestClient) -> None:
    error = refused(strict.post(CHAT, json=asking(model="gpt-9")), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    refused(strict.get("/v1/models/gpt-9"), 404)
    refused(strict.post("/v1/embeddings", json={}), 404)
    refused(strict.get("/../../etc/passwd"), 404)
    refused(strict.get(CHAT), 405)
    refused(strict.request("TRACE", "/v1/models"), 405)
    refused(strict.delete("/v1/models/tiny"), 405)


@pytest.mark.parametrize(
    ("path", "field", "told"),
    [
        (CHAT, {"stop": ["a"] * 5}, "stop: List should have at most 4 items"),
        (CHAT, {"stop": ""}, "stop: String should have at least 1 character"),
        (CHAT, {"stop": 5}, "stop: Input should be a valid string"),
        ("/v1/completions", {"prompt": [-1]}, "prompt.0: Input should be greater than or equal to 0"),
        ("/v1/completions", {"prompt": [[5, 2**40]]}, "prompt.0.1: Input should be less than or equal to"),
    ],
)
def test_a_value_of_several_kinds_is_told_by_the_kind_that_it_is_of(
    strict: TestClient, path: str, field: dict[str, Any], told: str
) -> None:
    body = (asking() if path == CHAT else {}) | field
    assert refused(strict.post(path, json=body))["message"].startswith(told)


@pytest.mark.parametrize("body", [{}, {"prompt": "a", "messages": []}, {"prompt": "a", "messages": [1]}, {"prompt": 5}])
def test_tokenize_refuses_too(strict: TestClient, body: dict[str, Any]) -> None:
    refused(strict.post("/tokenize", json=body))


@pytest.mark.parametrize("prompt", ["", [], [[]], ["x"] * 9, [300], [-1], [[1], "x"], [2**40], {"a": 1}, None])
def test_prompts_that_cannot_be(strict: TestClient, prompt: Any) -> None:
    assert refused(strict.post("/v1/completions", json={"prompt": prompt}))["param"].startswith("prompt")


def test_large_bodies_are_not_read(strict: TestClient) -> None:
    refused(strict.post(CHAT, json=asking("x" * 10_000_000)), 413)
    pieces = (b"x" * 100_000 for _ in range(100))
    refused(strict.post(CHAT, content=pieces, headers={"Content-Type": "application/json"}), 413)


def test_the_document_describes_the_routes(engine: Engine) -> None:
    paths = create_app({"tiny": engine}, limits=Limits()).openapi()["paths"]
    assert {CHAT, "/v1/completions", "/v1/models", "/tokenize", "/health", "/metrics"} <= set(paths)
