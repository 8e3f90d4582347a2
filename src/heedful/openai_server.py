"""An OpenAI-compatible server, as each of its clients here meets it: how it is reached, and what its errors say."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from heedful.address import is_loopback

LONGEST = 500  # characters that are shown of an error
SHORTEST = 6  # characters of what is hidden: a shorter key would be found in every other word


def route_url(url: str, route: str) -> str:
    """Return the address of a server's route, as "models".

    The server is named by its base, as OpenAI's clients name it (http://host/v1), by its chat completions, or by its
    host alone.
    """
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    base = path.removesuffix("/chat/completions") if path else "/v1"
    return urlunsplit((parts.scheme, parts.netloc, f"{base}/{route}", parts.query, ""))


def client_options(url: str, key: str | None, timeout: float) -> dict[str, Any]:
    """Return an HTTP client's options; the timeout is in seconds without a byte.

    The key goes to the one address that was named, so redirects are not followed. A proxy, if the environment names
    one, cannot reach this machine's own servers.
    """
    return {
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        "timeout": timeout,
        "follow_redirects": False,
        "trust_env": not is_loopback(urlsplit(url).hostname or ""),
    }


def error_text(body: str, url: str, key: str | None) -> str:
    """Return the message of an error in OpenAI's shape, or whatever the body is instead, in one line.

    A server may repeat what it was asked with: the key, and what the address's query holds, are not shown.
    """
    try:
        told = json.loads(body)
        told = told.get("error") or told
        told = told["message"] if isinstance(told, dict) else told
    except (ValueError, AttributeError, KeyError, RecursionError):
        told = body
    told, query = str(told), urlsplit(url).query
    for secret in (key or "", query, *(value for _, value in parse_qsl(query))):
        if len(secret) >= SHORTEST:
            told = told.replace(secret, "***").replace(quote(secret, safe=""), "***")
    return " ".join(told.split())[:LONGEST]
