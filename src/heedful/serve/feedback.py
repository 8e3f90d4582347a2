"""What people said about answers: kept in SQLite beside the run, and exported as rows that `heedful train` reads.

An opinion is known by the id of the answer that it is about, so a changed mind replaces what was said before. Earlier
answers of a conversation are its context, not its lesson: they are exported with the weight 0. An answer that was cut
off is never a lesson, even if it was liked.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from heedful.clean import is_unicode
from heedful.data.turns import check_turns, message
from heedful.errors import DataError, RunError, UsageError, reason_of, typed
from heedful.run import Run, open_run
from heedful.system.atomic import write_json

_TABLE = """CREATE TABLE IF NOT EXISTS feedback (
    id TEXT PRIMARY KEY, given TEXT NOT NULL, model TEXT NOT NULL, messages TEXT NOT NULL, answer TEXT NOT NULL,
    rating TEXT, better TEXT, finish TEXT)"""
_COUNTS = """SELECT count(*) FILTER (WHERE rating = 'up'), count(*) FILTER (WHERE rating = 'down'),
    count(*) FILTER (WHERE better IS NOT NULL) FROM feedback"""


class Turn(BaseModel):
    """A message that the model saw."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str


class Opinion(BaseModel):
    """What somebody thought of an answer: a rating, a better answer, or neither, which takes back what was said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[\w-]{1,64}$")
    model: str = Field(max_length=200)
    messages: list[Turn]
    answer: str
    rating: Literal["up", "down"] | None = None
    better: str | None = None
    finish: Literal["stop", "length", "stopped", "error"] | None = None  # what ended the answer, if that is known

    @property
    def lesson(self) -> str | None:
        """The answer to learn, if there is one."""
        liked = self.rating == "up" and self.finish in ("stop", None)
        return self.better if self.better is not None else self.answer if liked else None

    @model_validator(mode="after")
    def _can_be_learned(self) -> Self:
        """Refuse at the door what `heedful train` would refuse later, and what no file can hold."""
        if not is_unicode(f"{self.model}{self.answer}{self.better}"):
            raise ValueError("a text holds half of a surrogate pair, which is not a character")
        lesson = "-" if self.lesson is None else self.lesson
        turns = [(turn.role, turn.content) for turn in self.messages] + [("assistant", lesson)]
        try:
            check_turns([message(role, text, "messages") for role, text in turns])
        except DataError as error:
            raise ValueError(error.problem) from None
        return self

    def row(self) -> dict[str, Any]:
        """Return the conversation with its lesson as a row in the `messages` format."""
        context = [turn.model_dump() | ({"weight": 0} if turn.role == "assistant" else {}) for turn in self.messages]
        return {"messages": [*context, {"role": "assistant", "content": self.lesson}]}


class Feedback:
    """The opinions of one run. Each call opens the file anew, so that threads and processes may share it."""

    def __init__(self, run: Run) -> None:
        self.file = run.feedback_file

    def put(self, opinion: Opinion) -> None:
        """Keep an opinion in place of an earlier one about the same answer."""
        messages = json.dumps([turn.model_dump() for turn in opinion.messages], ensure_ascii=False)
        given = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        said = (opinion.answer, opinion.rating, opinion.better, opinion.finish)
        values = (opinion.id, given, opinion.model, messages, *said)
        with self._open() as database:
            if opinion.rating is None and opinion.better is None:
                database.execute("DELETE FROM feedback WHERE id = ?", (opinion.id,))
            else:
                database.execute("INSERT OR REPLACE INTO feedback VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)

    def counts(self) -> dict[str, int]:
        """Count the answers that were rated up, rated down and written better."""
        if not self.file.exists():
            return {"up": 0, "down": 0, "better": 0}
        with self._open() as database:
            up, down, better = database.execute(_COUNTS).fetchone()
        return {"up": up, "down": down, "better": better}

    def opinions(self) -> list[Opinion]:
        """Read every opinion, in the order in which they were given."""
        if not self.file.exists():
            return []
        with self._open() as database:
            names = ("id", "model", "messages", "answer", "rating", "better", "finish")
            rows = database.execute(f"SELECT {', '.join(names)} FROM feedback ORDER BY rowid")
            kept = [dict(zip(names, row, strict=True)) for row in rows]
        return [self._opinion(entry) for entry in kept]

    def _opinion(self, entry: dict[str, Any]) -> Opinion:
        """Read one opinion; raise RunError for one that was changed by hand into none."""
        try:
            return Opinion.model_validate(entry | {"messages": json.loads(entry["messages"])})
        except (ValueError, TypeError) as error:
            why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else reason_of(error)
            problem = f"{self.file}: the row of the table feedback with the id {entry['id']!r} is no opinion: {why}."
            raise RunError(problem, "Mend it, or delete it.") from None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.file, timeout=10)) as database, database:
                database.execute(_TABLE)
                yield database
        except sqlite3.Error as error:
            raise RunError(f"{self.file} cannot be used: {error}.", "Is the disk full, or the file damaged?") from error


def export_feedback(run_path: Path, out: Path | None) -> tuple[Path, int, int]:
    """Write what can be learned from a run's feedback to a file of rows.

    Gives the file, how many rows it has, and how many opinions hold nothing to learn: the answer was rated down or cut
    off, and no better one written.
    """
    run = open_run(run_path)
    if out is not None and out.exists():
        raise UsageError(f"{out} exists.", "Choose another --out, or remove it.")
    opinions = Feedback(run).opinions()
    rows = [opinion.row() for opinion in opinions if opinion.lesson is not None]
    if not rows:
        raise UsageError(
            f"The feedback on {run_path} holds nothing to learn yet.",
            f"Rate answers up or write better ones on the page of `heedful serve {typed(run_path)}`.",
        )
    file = out or run.path / "feedback.json"
    write_json(file, rows)
    return file, len(rows), len(opinions) - len(rows)
