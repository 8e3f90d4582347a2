"""`heedful generate --data`: every row of a file is answered, and each answer kept as soon as it is whole.

The answers lie in OUT.unfinished until there are all: a line with a hash of what they depend on, then a line each with
what ended it (unknown of one that an older version kept), in the order in which they came.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heedful import pipeline
from heedful.config import SAMPLING
from heedful.data.prompts import AskedRow, prompts
from heedful.errors import DataError, RunError, UsageError
from heedful.generate.engine import Engine
from heedful.generate.sampling import seeded_per_row
from heedful.model.pretrained import fingerprint
from heedful.records import Message
from heedful.report import screen
from heedful.report.bars import TERMINAL, counting_bar
from heedful.report.labels import counted
from heedful.settings import load_config, refuse_others
from heedful.system.atomic import write_json

READ = ("data.format", "data.columns", "data.on_bad_row")  # of the settings of data
Answers = dict[int, tuple[str, str]]  # of a row: its text, and what ended it


def answer_file(run_or_model: str, data: str, out: Path, settings: Mapping[str, Any]) -> None:
    """Answer every row of a data set, and write the rows with their `model_response` to a file.

    After an interruption the same command continues from the answers that were kept.
    """
    out = out.resolve() if out.is_symlink() else out
    unfinished = Path(f"{out}.unfinished")
    _check_out(out, unfinished, data)
    asked = {leaf: value for leaf, value in settings.items() if leaf not in READ}
    refuse_others(asked, (*SAMPLING, "precision", "batch_size"), "`heedful generate --data`")
    rows = prompts(load_config(None, settings, {"data.path": data}).data, TERMINAL)
    engine = pipeline.load(run_or_model, settings=asked)
    _check_lengths(engine, data, [question for _, question in rows])
    samplings = seeded_per_row(engine.sampling, len(rows))
    with _kept(unfinished, _answers_key(engine, rows)) as (answers, keep):
        _check_out(out, unfinished, data)  # another process may have written it, while this one loaded
        if answers:
            screen.say(f"{len(answers)} of {len(rows)} answers are kept from {unfinished}.")
        left = [row for row in range(len(rows)) if row not in answers]
        with counting_bar("Answering the rows", len(rows)) as on_done:
            for place, answer in engine.answers([rows[row][1] for row in left], [samplings[row] for row in left]):
                keep(left[place], answer.text, answer.finish_reason)
                on_done(len(answers))
        if out.exists():
            raise UsageError(f"{out} appeared meanwhile.", f"Move it away, and repeat: {unfinished} has all answers.")
        write_json(out, [{**row, "model_response": answers[number][0]} for number, (row, _) in enumerate(rows)])
        unfinished.unlink()
    screen.say(f"{counted(len(rows), 'answer')} {'is' if len(rows) == 1 else 'are'} in {out}.")
    if cut := sum(finish == "length" for _, finish in answers.values()):
        limit = f"the limit of {counted(engine.sampling.max_tokens, 'token')}, or where the model's context ends"
        screen.say(f"{counted(cut, 'answer')} cut off at {limit}; --max-tokens N raises the limit.")


def _check_out(out: Path, unfinished: Path, data: str) -> None:
    """Refuse to replace anything, and a place where nothing can be written."""
    folder = out.resolve().parent
    if out.resolve() == Path(data).resolve() or out.is_dir() or not os.access(folder, os.W_OK):
        reason = "it is a folder" if out.is_dir() else "" if folder.is_dir() else f"there is no folder {folder}"
        raise UsageError(f"Answers cannot be written to {out}{reason and ': '}{reason}.", "Choose another --out.")
    if out.exists() or (unfinished.exists() and not unfinished.is_file()):
        raise UsageError(f"{out if out.exists() else unfinished} exists.", "Choose another --out, or remove it.")


@contextmanager
def _kept(unfinished: Path, key: str) -> Iterator[tuple[Answers, Callable[[int, str, str], None]]]:
    """Give the answers that an earlier call kept, and the function that keeps another one."""
    with open(unfinished, "a+b", buffering=0) as file:  # each line is in the file when it was written
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"Another heedful writes {unfinished}.", "Wait for it, or choose another --out.") from None

        def write(line: Any) -> None:
            content = json.dumps(line).encode() + b"\n"
            try:
                if file.write(content) < len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                fix = "Free some space: the same command goes on from the answers that are kept."
                raise RunError(f"Cannot write {unfinished}: {error.strerror}.", fix) from error

        file.seek(0)
        content = file.read()
        whole = content[: content.rfind(b"\n") + 1]  # up to a line that a kill left half-written
        answers = _read(whole if content else None, unfinished, key)
        file.truncate(len(whole))
        if not whole:
            write({"key": key})

        def keep(row: int, text: str, finish: str) -> None:
            write([row, text, finish])
            answers[row] = text, finish

        yield answers, keep


def _read(whole: bytes | None, unfinished: Path, key: str) -> Answers:
    """Read the answers of the whole lines of a file that is not new; UsageError if they are of another call."""
    if whole is None:
        return {}
    try:
        head, *answers = map(json.loads, whole.split(b"\n")[:-1])
        if head != {"key": key}:
            raise ValueError
        return {int(row): (str(text), str(*finish)) for row, text, *finish in answers}
    except (ValueError, TypeError, RecursionError):
        raise UsageError(
            f"{unfinished} does not hold answers of this model, by these settings, to these rows.",
            "Choose another --out, or remove it.",
        ) from None


def _answers_key(engine: Engine, rows: Sequence[AskedRow]) -> str:
    """Hash what answers depend on: the model, its precision, the sampling, and each row with its prompt's tokens."""
    digest = hashlib.sha256(f"{fingerprint(engine.model)} {engine.model.dtype} {engine.sampling}".encode())
    for row, asked in rows:
        digest.update(json.dumps([row, engine.prompter.prompt_ids(asked)]).encode())
    return digest.hexdigest()


def _check_lengths(engine: Engine, data: str, questions: Sequence[Sequence[Message]]) -> None:
    """Refuse, before the first answer, rows that the model has no room for."""
    long = [row for row, asked in enumerate(questions, 1) if engine.count(asked) >= engine.positions]
    if long:
        count = f"{counted(len(long), 'row')} too long for a model of {engine.positions} positions"
        raise DataError(f"{data} holds {count} (the first: row {long[0]}).", "Shorten what is asked there.")
