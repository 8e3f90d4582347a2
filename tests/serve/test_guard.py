"""Only who has the key, calls the server by its name and comes from its own pages is let in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.serve.conftest import CHAT, asking, refused, serving

from heedful.generate.engine import Engine
from heedful.serve import guard
from heedful.serve.counters import Counters
from heedful.serve.guard import AccessPolicy
from heedful.serve.limits import Limits
from heedful.serve.server import is_failure

KEY = "s3cret-Key"


WRONG = [
    None,
    "Bearer",
    "Bearer wrong",
    f"Basic {KEY}",
    KEY,
    f"Bearer {KEY}x",
    f"Bearer {KEY[:-1]}",
    "Bearer schlüssel",
]


@pytest.fixture(scope="module")
def locked(engine: Engine) -> Iterator[TestClient]:
    with serving({"tiny": engine}, policy=AccessPolicy(KEY)) as client:
        yield client


@pytest.mark.parametrize("given", WRONG)
def test_every_route_but_health_needs_the_key(locked: TestClient, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given.encode("latin-1")}
    for route in [route for route in locked.app.routes if "{" not in getattr(route, "path", "{")]:  # type: ignore[attr-defined]
        if route.path in ("/health", "/healthz"):
            continue
        for method in route.methods:
            reply = locked.request(method, route.path, headers=headers)
            assert reply.status_code == 401, route.path
            assert reply.headers["www-authenticate"] == "Bearer"
            assert KEY not in reply.text
    assert (
        refused(locked.post(f"{CHAT}?api_key={KEY}", json=asking(), headers=headers), 401)["code"] == "invalid_api_key"
    )
    assert locked.get("/health").status_code == 200


def test_the_key_opens(locked: TestClient) -> None:
    for scheme in ("Bearer", "bearer"):
        reply = locked.post(CHAT, json=asking(max_tokens=1), headers={"Authorization": f"{scheme} {KEY}"})
        assert reply.status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.com", "evil.com:8000", "localhost.evil.com", "127.0.0.1.evil.com", "", "a b", "[::1"]
)
def test_foreign_hosts_are_refused(client: TestClient, host: str) -> None:
    assert refused(client.get("/v1/models", headers={"Host": host}), 403)["code"] == "host_not_allowed"
    assert refused(client.get("/health", headers={"Host": host}), 403)


@pytest.mark.parametrize(
    ("own", "host"),
    [("::1", ""), ("::1", "[bad"), ("fe80::1", "fe80"), ("fe80::1%eth0", "fe80"), ("", ""), ("[bad", "[worse")],
)
def test_an_address_to_listen_on_opens_no_other_name(engine: Engine, own: str, host: str) -> None:
    with serving({"tiny": engine}, policy=AccessPolicy(KEY, hosts=[own])) as client:
        assert refused(client.get("/health", headers={"Host": host}), 403)["code"] == "host_not_allowed"


def test_own_hosts_are_let_in(engine: Engine) -> None:
    with serving({"tiny": engine}, policy=AccessPolicy(hosts=["Models.lan"])) as client:
        for host in (
            "localhost",
            "localhost:8000",
            "127.0.0.1:99",
            "[::1]:8000",
            "192.168.0.7",
            "models.lan:80",
            "MODELS.LAN",
        ):
            assert client.get("/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.com", "null", "http://localhost:1", "https://localhost.evil.com", "x", "http://["]
)
def test_pages_of_other_origins_are_refused(client: TestClient, origin: str) -> None:
    headers = {"Origin": origin}
    reply = client.post(CHAT, json=asking(max_tokens=1), headers=headers)
    assert refused(reply, 403)["code"] == "origin_not_allowed"
    preflight = client.options(CHAT, headers={**headers, "Access-Control-Request-Method": "POST"})
    assert preflight.status_code in (403, 405)
    for answered in (reply, preflight):
        assert not any(name.startswith("access-control") for name in answered.headers)


def test_the_own_origin_may_ask(client: TestClient) -> None:
    reply = client.post(CHAT, json=asking(max_tokens=1), headers={"Origin": "http://localhost"})
    assert reply.status_code == 200 and "access-control-allow-origin" not in reply.headers


def test_cors_is_for_those_that_were_named(engine: Engine) -> None:
    policy = AccessPolicy(KEY, origins=["http://Chat.lan:3000/"])
    with serving({"tiny": engine}, policy=policy) as client:
        asked = {
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        preflight = client.options(CHAT, headers={"Origin": "http://chat.lan:3000", **asked})
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == "http://chat.lan:3000"
        assert "access-control-allow-credentials" not in preflight.headers
        headers = {"Origin": "http://chat.lan:3000", "Authorization": f"Bearer {KEY}"}
        reply = client.post(CHAT, json=asking(max_tokens=1), headers=headers)
        assert reply.headers["access-control-allow-origin"] == "http://chat.lan:3000"
        refused(client.post(CHAT, json=asking(), headers={**headers, "Origin": "http://evil.com"}), 403)
        unlocked = client.post(CHAT, json=asking(), headers={"Origin": "http://chat.lan:3000"})
        assert refused(unlocked, 401) and unlocked.headers["access-control-allow-origin"] == "http://chat.lan:3000"


@pytest.mark.parametrize("begun", [True, False])
def test_a_reader_who_is_too_slow_is_no_failure_of_the_server(begun: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was told nothing yet is: the app did not answer."""
    monkeypatch.setattr(guard, "GRACE_SECONDS", 0.01)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(60)

    async def nothing(*message: Any) -> dict[str, Any]:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": "/health", "headers": [(b"host", b"localhost")]}
    guarded = guard.Guard(app, AccessPolicy(), Limits(answer_seconds=0.01), Counters())
    with pytest.raises(TimeoutError) as late:
        asyncio.run(guarded(scope, nothing, nothing))
    entry = logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, "", (), late._excinfo)
    assert is_failure(entry) is not begun
