"""Addresses: of what kind they are, and how much of one may be shown.

What follows the `?` of an address may be a key. That of a file stays in config.yaml, by which the data is read again,
and is shown nowhere else.
"""

from __future__ import annotations

import ipaddress
import re

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.I)
_WEB = re.compile(r"(https?://)(?:[^/?#]*@)?([^?#]*)(\?[^#]*)?.*", re.I | re.S)
_USER = re.compile(r"https?://[^/?#]*@", re.I)


def scheme_of(name: str) -> str:
    """Return "https" of an address that begins with it in any case, and "" of a path."""
    found = _SCHEME.match(name)
    return found[1].lower() if found else ""


def names_user(name: str) -> bool:
    """Say whether an address holds a user's name or password."""
    return _USER.match(name) is not None


def redacted(text: str, rest: str = "?...") -> str:
    """Return a text without what may be secret in the address at its end: user, password and, but for `rest`, query."""
    return _WEB.sub(lambda found: f"{found[1]}{found[2]}{rest if found[3] else ''}", text, count=1)


def is_loopback(host: str) -> bool:
    """Say whether a host name or address is this machine's loopback."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
