"""A chat in the terminal whose engine says what it is told to: for test_chat.py and test_chat_saved.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from heedful.records import Completion, FinishReason, Message, Sampling


class Scripted:
    """Looks like an Engine; its n-th answer is the n-th script. It remembers what it was asked."""

    name = "scripted"
    finish: FinishReason = "stop"

    def __init__(self, *answers: Sequence[str | BaseException], positions: int = 1000) -> None:
        self.answers = list(answers)
        self.positions = positions
        self.asked: list[list[tuple[str, str]]] = []
        self.seeds: list[int] = []

    def count(self, messages: Sequence[Message]) -> int:
        return sum(len(message.content) for message in messages)

    def stream(self, prompt: Sequence[Message], sampling: Sampling) -> Iterator[str | Completion]:
        self.asked.append([(message.role, message.content) for message in prompt])
        self.seeds.append(sampling.seed)
        for piece in self.answers.pop(0):
            if isinstance(piece, BaseException):
                raise piece
            yield piece
        yield Completion("", (), self.finish, 1, 0.0)


class Said:
    """What a run printed."""

    def __init__(self, out: str, notes: str, code: object) -> None:
        self.out = out
        self.notes = notes
        self.code = code
