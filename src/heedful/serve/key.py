"""The key of a server: where it comes from, and where there must be one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from heedful.address import is_loopback
from heedful.errors import UsageError

API_KEY = "HEEDFUL_API_KEY"  # the environment variable that may hold the key


def read_key(file: Path | None, variable: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """Read the key from a file or the environment; never from the command line, which every process can see."""
    if file is None and variable not in environment:
        return None
    try:
        key = (file.read_text("ascii") if file else environment[variable]).strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"Cannot read the key from {file}: {reason}.") from error
    if not key:
        raise UsageError(f"The key in {file or variable} is empty.", "Put it there, or name none.")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise UsageError(f"The key in {file or variable} is not a key: letters, digits and signs, without spaces.")
    return key


def check_host(host: str, key: str | None) -> None:
    """Refuse to open the door to others without a key."""
    if key is None and not is_loopback(host):
        raise UsageError(
            f"Without a key, everybody who reaches {host} could use the model.",
            f"Make one (openssl rand -hex 24), give it by --api-key-file FILE or in {API_KEY}, or stay on 127.0.0.1.",
        )
