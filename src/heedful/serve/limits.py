"""How much one client may ask for, and for how long a request may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of a server; times are in seconds."""

    body: int = 2**20  # bytes
    messages: int = 256
    choices: int = 8  # `n`, and prompts of one completions request
    answer_tokens: int = 1024  # of an answer whose request does not say
    waiting: int = 64  # rows that wait for a place
    running: int = 32  # rows that are decoded together
    answer_seconds: float = 600.0  # from the request to the answer's last byte
    body_seconds: float = 30.0  # until a body has arrived
    head_seconds: float = 20.0  # until a request's head has arrived
    drain_seconds: float = 30.0  # for what is being answered, after SIGTERM
