"""The key of a server: where it comes from, and where there must be one."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path

from heedful.errors import UsageError

KEY_VARIABLE = "HEEDFUL_API_KEY"


def read_key(file: Path | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """Read the key from a file or the environment; never from the command line, which every process can see."""
    if file is None and KEY_VARIABLE not in environment:
        return None
    try:
        key = (file.read_text("ascii") if file else environment[KEY_VARIABLE]).strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"Cannot read the key from {file}: {error}.") from error
    if not (key and key.isascii() and key.isprintable() and " " not in key):
        raise UsageError(
            f"The key in {file or KEY_VARIABLE} is no key: letters, digits and signs, without spaces.",
            "`openssl rand -hex 24` makes one.",
        )
    return key


def check_host(host: str, key: str | None) -> None:
    """Refuse to open the door to others without a key."""
    if key is None and not is_loopback(host):
        raise UsageError(
            f"Without a key, everybody who reaches {host} could use the model.",
            f"Give a key with --api-key-file FILE or in {KEY_VARIABLE}, or stay on 127.0.0.1.",
        )


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
