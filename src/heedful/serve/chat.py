"""The terminal chat: lines in, streamed answers out; in a pipe the answers are all that stdout gets.

What the model says is shown without control characters, so no answer can move the cursor, set the title or write to the
clipboard. The conversation itself is kept as the model said it.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from heedful.errors import HeedfulError, did_you_mean
from heedful.generate.engine import Engine
from heedful.records import Completion, Message, Sampling
from heedful.serve.clean import clean, clean_stream

HELP = """\
/retry          answer the last message again, with another seed
/undo           take back the last message and its answer
/system TEXT    set the system message; without TEXT, none
/save FILE      append the conversation to FILE, as a line that `heedful train` reads
/help           this list
/quit           leave, as Ctrl-D does; Ctrl-C stops an answer
A line that begins with a space is a message, even if / follows."""


class Leave(Exception):
    """The user wants to go."""


def chat(engine: Engine, sampling: Sampling, system: str | None = None) -> None:
    """Talk with an engine until the user leaves or the input ends."""
    talk = Talk(engine, sampling, system)
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):  # not on every system
            import readline  # noqa: F401  (gives `input` its arrow keys and its history)
        talk.say(f"{engine.name or 'The model'} listens. /help lists the commands.")
    while True:
        try:
            talk.hear(read_line())
        except KeyboardInterrupt:
            talk.say("\nCtrl-D or /quit leaves.")
        except HeedfulError as error:
            talk.say(str(error))
        except (Leave, EOFError):
            return


def read_line() -> str:
    """Read a line, with a prompt where a person types; bytes that are no UTF-8 become U+FFFD."""
    line = input("> " if sys.stdin.isatty() else "")
    return line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@dataclass
class Talk:
    """A conversation in progress and the engine that answers it."""

    engine: Engine
    sampling: Sampling
    system: str | None = None
    turns: list[Message] = field(default_factory=list)  # user, assistant, user, assistant, ...
    retries: int = 0
    told: bool = False  # that old turns are left out
    answers: Console = field(default_factory=lambda: Console(soft_wrap=True))
    notes: Console = field(default_factory=lambda: Console(stderr=True, soft_wrap=True))

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
            "save": self.save,
            "help": lambda _: self.say(HELP),
            "quit": self.leave,
        }
        if name not in commands:
            hint = did_you_mean(name, commands).replace("'", "'/", 1) or "/help lists them."
            self.say(f"There is no command '/{name}'. {hint}")
        else:
            commands[name](argument.strip())

    def answer(self, text: str) -> None:
        """Stream the answer to a message. Ctrl-C keeps what was said; if that is nothing, it was never asked."""
        said: list[str] = []
        self.turns.append(Message("user", text))
        try:
            for piece in clean_stream(self.stream(said)):
                self.answers.out(piece, end="", highlight=False)
        except KeyboardInterrupt:
            self.say(" [stopped]")
        finally:
            self.answers.out()
            if said:
                self.turns.append(Message("assistant", "".join(said)))
            else:
                self.turns.pop()

    def stream(self, said: list[str]) -> Iterator[str]:
        """Yield the pieces of the next answer, and keep them in `said`."""
        sampling = replace(self.sampling, seed=self.sampling.seed + self.retries)
        for piece in self.engine.stream(self.messages(), sampling):
            if not isinstance(piece, Completion):
                said.append(piece)
                yield piece

    def messages(self) -> list[Message]:
        """Give what the model is to see: the system message, and the newest turns that leave room for an answer."""
        head = [Message("system", self.system)] if self.system else []
        room = self.engine.positions - min(self.sampling.max_tokens, self.engine.positions // 2)
        oldest = 0
        while oldest + 1 < len(self.turns) and self.count([*head, *self.turns[oldest:]]) > room:
            oldest += 2
        if oldest and not self.told:
            self.told = True
            self.say("The conversation is longer than the model's context: from here its oldest turns are left out.")
        return [*head, *self.turns[oldest:]]

    def count(self, messages: list[Message]) -> int:
        return len(self.engine.prompter.prompt_ids(messages))

    def retry(self, _: str = "") -> None:
        """Answer the last message again."""
        if self.turns and self.sampling.temperature == 0:
            self.say("Without a temperature the answer is the same each time.")
        self.retries += 1
        if text := self.take_back():
            self.answer(text)

    def take_back(self) -> str:
        """Remove the last message and its answer; give the message."""
        if not self.turns:
            raise HeedfulError("There is no message yet.")
        self.turns.pop()
        return self.turns.pop().content

    def instruct(self, text: str) -> None:
        """Set the system message."""
        self.system = text or None
        self.say("The system message is set." if text else "There is no system message now.")

    def save(self, file: str) -> None:
        """Append the conversation as a line of JSON in the `messages` format."""
        if not file or not self.turns:
            raise HeedfulError("There is no conversation yet." if file else "Say where: /save FILE.")
        head = [Message("system", self.system)] if self.system else []
        messages = [{"role": message.role, "content": message.content} for message in [*head, *self.turns]]
        try:
            with open(Path(file).expanduser(), "a", encoding="utf-8") as lines:
                lines.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
        except OSError as error:
            raise HeedfulError(f"Cannot write {file}: {error.strerror}.") from error
        self.say(f"Saved to {file}.")

    def leave(self, _: str) -> None:
        raise Leave

    def say(self, text: str) -> None:
        """Print a word of heedful's own, on stderr."""
        self.notes.out(clean(text), style="dim", highlight=False)
