"""The terminal chat: lines in, streamed answers out; in a pipe the answers are all that stdout gets.

What the model says is shown without control characters, so no answer can move the cursor, set the title or write to the
clipboard. The conversation itself is kept as the model said it.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from heedful.clean import clean, clean_stream
from heedful.errors import HeedfulError, ModelError, UsageError, did_you_mean
from heedful.records import Completion, Message, Sampling
from heedful.report.console import Screen
from heedful.report.screen import cut_off
from heedful.serve.lines import read_line, remember_lines

HELP = """\
/retry          answer the last message again, with another seed
/undo           take back the last message and its answer
/system TEXT    set the system message; without TEXT, none
/set NAME VALUE change how answers are sampled, as in /set temperature 0.7; without NAME, list it
/compare        let the other model answer the last message too (a run's base)
/save FILE      append the conversation to FILE, as a line that `heedful train` reads
/help           this list
/quit           leave, as Ctrl-D does; Ctrl-C stops an answer
\"\"\"             begins and ends a message of several lines
A line that begins with a space is a message, even if / follows."""

SETTINGS = tuple(f.name for f in fields(Sampling) if f.name not in ("logit_bias", "logprobs"))


class Leave(Exception):
    """The user wants to go."""


class TooLong(ModelError):
    """A server refused a conversation for its length; without its oldest turns it may fit."""


@dataclass
class Said:
    """What was said of an answer so far, whether the model ended it by itself, and if not, where it was cut off."""

    pieces: list[str] = field(default_factory=list)
    whole: bool = False
    cut: str = ""


class Speaker(Protocol):
    """What answers: an Engine, or a model of a server, whose `stream` may raise TooLong before its first piece."""

    name: str

    @property
    def positions(self) -> int: ...
    def stream(self, prompt: Sequence[Message], sampling: Sampling) -> Iterator[str | Completion]: ...
    def count(self, messages: Sequence[Message]) -> int: ...


Other: TypeAlias = Callable[[], Speaker]


def chat(
    engine: Speaker,
    sampling: Sampling,
    system: str | None = None,
    other: Other | None = None,
    named: set[str] | None = None,
) -> None:
    """Chat with an engine until the user leaves or the input ends; `other` opens the model that /compare asks.

    A server decides the settings that are not `named`; /set names more.
    """
    talk = Talk(engine, sampling, system, other, {*SETTINGS} if named is None else named)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # a byte that is no UTF-8 must not end the talk
    if sys.stdin.isatty():
        remember_lines()
        talk.say(f"Chatting with {engine.name or 'the model'}. /help lists the commands.")
    while True:
        try:
            talk.hear(read_line())
        except KeyboardInterrupt:
            talk.say("\nCtrl-D or /quit leaves.")
        except HeedfulError as error:
            talk.failed = True
            talk.say(str(error))
        except (Leave, EOFError):
            if talk.failed and not sys.stdin.isatty():  # a script should know
                raise SystemExit(1) from None
            return


@dataclass
class Talk:
    """A conversation in progress and the engine that answers it."""

    engine: Speaker
    sampling: Sampling
    system: str | None = None
    other: Other | None = None  # opens the model to compare with
    named: set[str] = field(default_factory=lambda: {*SETTINGS})  # settings that are decided here
    told: bool = False  # that old turns are left out
    failed: bool = False  # something asked for was not done
    turns: list[Message] = field(default_factory=list)  # user, assistant, ...; answers cut off are not supervised
    retries: int = 0
    refused: int = 0  # how many of the oldest turns a server did not take with the others
    notes: Screen = field(default_factory=lambda: Screen(stderr=True, soft_wrap=True))

    def hear(self, line: str) -> None:
        """Do what a line asks for: a command, or an answer."""
        if line.startswith("/"):
            self.command(*line[1:].partition(" ")[::2])
        elif line.strip():
            self.retries = 0
            self.answer(line.strip())

    def command(self, name: str, argument: str) -> None:
        commands: dict[str, Callable[[str], None]] = {
            "retry": self.retry,
            "undo": lambda _: self.say(f"Taken back: {self.take_back()}"),
            "system": self.instruct,
            "set": self.set,
            "compare": self.compare,
            "save": self.save,
            "help": lambda _: self.say(HELP),
            "quit": self.leave,
        }
        if name not in commands:
            hint = did_you_mean(name, commands).replace("'", "'/", 1) or "/help lists them."
            raise UsageError(f"There is no command '/{name}'.", f"{hint} A message may begin with / after a space.")
        commands[name](argument.strip())

    def answer(self, text: str, before: Sequence[Message] = ()) -> None:
        """Stream the answer to a message. Ctrl-C keeps what was said so far; if nothing was, `before` stays."""
        said, asked, refused = Said(), Message("user", text), self.refused
        self.turns.append(asked)
        try:
            show(self.stream(said))
        except KeyboardInterrupt:
            self.say(" [stopped]")
        finally:
            if said.pieces or said.whole:
                print(flush=True)
            answer = Message("assistant", "".join(said.pieces), None if said.whole else False)
            self.turns[-1:] = [asked, answer] if answer.content.strip() else before
            if not answer.content.strip():
                self.failed = True
                self.refused = refused  # with this message; with another the turns may well fit
                self.say(f"No answer came; {'the previous one is kept' if before else 'the message is dropped'}.")
            if said.cut:
                self.say(said.cut)

    def stream(self, said: Said, speaker: Speaker | None = None) -> Iterator[str]:
        """Yield the pieces of the next answer, and keep them in `said`."""
        sampling = replace(self.sampling, seed=self.sampling.seed + self.retries)
        try:
            for piece in (speaker or self.engine).stream(self.messages(), sampling):
                if isinstance(piece, Completion):
                    said.whole = piece.finish_reason == "stop"
                    said.cut = "" if said.whole else cut_off(piece, sampling.max_tokens, "/set max_tokens N")
                else:
                    said.pieces.append(piece)
                    yield piece
        except TooLong:
            if (oldest := self.oldest()) + 1 >= len(self.turns):
                raise
            self.refused = oldest + 2
            yield from self.stream(said, speaker)

    def messages(self) -> list[Message]:
        """Return what the model is to see: the system message, and the newest turns that leave room for an answer."""
        oldest = self.oldest()
        if oldest and not self.told:
            self.told = True
            self.say("The conversation is longer than the model's context: from here its oldest turns are left out.")
        return [*self.head(), *self.turns[oldest:]]

    def oldest(self) -> int:
        """Return the index of the first turn that the model is to see."""
        room = self.engine.positions - min(self.sampling.max_tokens, self.engine.positions // 2)
        oldest = self.refused
        while oldest + 1 < len(self.turns) and self.engine.count([*self.head(), *self.turns[oldest:]]) > room:
            oldest += 2
        return oldest

    def head(self) -> list[Message]:
        return [Message("system", self.system)] if self.system else []

    def retry(self, _: str = "") -> None:
        """Answer the last message again."""
        before = self.turns[-2:]
        text = self.take_back()
        if "temperature" in self.named and self.sampling.temperature == 0:
            self.say("At temperature 0 the answer is the same each time.")
        self.retries += 1
        self.answer(text, before)

    def compare(self, _: str) -> None:
        """Let the other model answer the last message, without a trace in the conversation."""
        if not self.turns:
            raise HeedfulError("There is no message yet.")
        if self.other is None:
            raise HeedfulError("There is no other model to compare with.", "A run has one: its base.")
        answer = self.turns.pop()
        try:
            speaker = self.other()
            self.say(f"{speaker.name}:")
            said = Said()
            show(self.stream(said, speaker))
            print(flush=True)
            if said.cut:
                self.say(said.cut)
        finally:
            self.turns.append(answer)

    def set(self, text: str) -> None:
        """Change a setting, or list them."""
        name, _, value = text.partition(" ")
        if not name:
            return self.say("\n".join(f"{name} {self.value_of(name)}" for name in SETTINGS))
        if name not in SETTINGS:
            raise HeedfulError(f"There is no setting '{name}'. {did_you_mean(name, SETTINGS)}".strip())
        kind = type(getattr(self.sampling, name))
        try:
            changed: Any = {name: kind([value.strip()] if value.strip() else ()) if kind is tuple else kind(value)}
        except ValueError as error:
            raise HeedfulError(f"{name} must be {'a whole number' if kind is int else 'a number'}.") from error
        self.sampling = replace(self.sampling, **changed)
        self.named.add(name)
        return self.say(f"{name} is {self.value_of(name)} now.")

    def value_of(self, name: str) -> Any:
        """Return a setting's value, or that the server decides it."""
        return getattr(self.sampling, name) if name in self.named else "the server's default"

    def take_back(self) -> str:
        """Remove the last message and its answer; return the message."""
        if not self.turns:
            raise HeedfulError("There is no message yet.")
        self.turns.pop()
        self.refused = 0
        return self.turns.pop().content

    def instruct(self, text: str) -> None:
        """Set the system message."""
        self.system = text or None
        self.say("The system message is set." if text else "There is no system message now.")

    def save(self, file: str) -> None:
        """Append the conversation as a line of JSON in the `messages` format; answers cut off have the weight 0."""
        if not file or not self.turns:
            raise HeedfulError("There is no conversation yet." if file else "Say where: /save FILE.")
        if all(turn.supervised is False for turn in self.turns[1::2]):
            raise HeedfulError("There is no complete answer to learn from yet: each was cut off.")
        messages = [
            {"role": turn.role, "content": turn.content} | ({"weight": 0} if turn.supervised is False else {})
            for turn in [*self.head(), *self.turns]
        ]
        try:
            path = Path(file).expanduser()
            begun = "\n" if _ends_within_a_line(path) else ""
            with open(path, "a", encoding="utf-8") as lines:
                lines.write(f"{begun}{json.dumps({'messages': messages}, ensure_ascii=False)}\n")
        except (OSError, ValueError, RuntimeError) as error:  # a zero byte is the second, ~nobody the third
            reason = str(getattr(error, "strerror", error)).rstrip(".")
            raise HeedfulError(f"Cannot write {file}: {reason}.") from error
        self.say(f"Saved to {file}.")

    def leave(self, _: str) -> None:
        raise Leave

    def say(self, text: str) -> None:
        """Print a message of heedful itself, on stderr."""
        self.notes.out(clean(text), style="dim", highlight=False)


def show(pieces: Iterator[str]) -> None:
    """Write an answer to stdout as it comes, without control characters and otherwise unchanged."""
    for piece in clean_stream(pieces):
        print(piece, end="", flush=True)


def _ends_within_a_line(file: Path) -> bool:
    """Say whether a file's last line lacks its end; a pipe, which cannot be looked at, has none."""
    if not file.is_file() or not file.stat().st_size:
        return False
    with open(file, "rb") as content:
        content.seek(-1, os.SEEK_END)
        return content.read() != b"\n"
