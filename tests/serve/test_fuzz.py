"""Whatever the OpenAPI document allows, and what it does not: never a 5xx, and every error in OpenAI's shape."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from tests.generate.conftest import Bytes
from tests.models import tiny_model

from heedful.generate.engine import Engine
from heedful.serve.app import create_app
from heedful.serve.limits import Limits

app = create_app({"tiny": Engine(tiny_model("llama"), Bytes(), "tiny")}, limits=Limits(answer_tokens=4))
schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": "localhost"})


@schema.parametrize()
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_request_breaks_the_server(case: Any) -> None:
    reply = case.call(headers={"Host": "localhost"})
    assert reply.status_code < 500, reply.text
    if reply.status_code >= 400:
        assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
