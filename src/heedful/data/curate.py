"""A DataConfig -> the three parts of its data set, and the receipt that accounts for every row.

rows read == rows kept + rows skipped, by reason. What the user asks in a row decides what is a duplicate and what
leaks: the same question in train and test is a leak, whatever the answers. So is a test row with which a train row
begins.
"""

from __future__ import annotations

import hashlib
import shutil
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heedful.address import redacted
from heedful.config import DataConfig
from heedful.data.formats import (
    MOST_SKIPPED,
    Column,
    FormatChoice,
    choose,
    columns_in,
    columns_read,
    columns_told,
    to_conversation,
)
from heedful.data.near import TextIndex, clusters, index_texts, near_any
from heedful.data.rows import Rows
from heedful.data.sources import Source, read, unread
from heedful.data.split import SPLITS, Numbers, Part, Parts, Shares
from heedful.data.turns import BadRow
from heedful.data.unrolled import Unrolled
from heedful.errors import DataError
from heedful.records import Conversation, Splits
from heedful.reporter import MANY_ROWS, SILENT, Reporter, tallied
from heedful.system.items import Items, Writer, numbers
from heedful.system.store import kept

VERSION = 8  # goes up when the same rows would be split or told of otherwise
SKIPPED_SHOWN = 10  # skipped rows that the receipt names
PARTS: tuple[Part, ...] = ("train", "validation", "test")
HELD_BACK: tuple[Part, ...] = ("validation", "test")


@dataclass(frozen=True)
class DataReceipt:
    """What happened to each row, and what stands twice."""

    path: str
    sha256: str
    format: str
    why: str
    columns: Mapping[str, str]  # field -> the column it is read from
    not_read: tuple[str, ...]  # columns
    read: int
    kept: int
    skipped: Mapping[str, int]  # reason -> rows
    first_skipped: tuple[str, ...]
    exact_duplicates: int  # rows whose question stands word for word in an earlier row
    near_duplicates: int  # rows with an earlier one at cosine 0.9 or more; the exact ones are among them
    approximate: bool  # so many rows that near duplicates were searched by MinHash, which may miss a few
    split: str
    sizes: Mapping[str, int]
    leaks: Mapping[str, Mapping[str, int]]  # part -> rows of it that train holds, exactly and nearly
    notes: tuple[str, ...]  # on the split
    file_notes: tuple[str, ...] = ()  # on how the files are read; they are said where that is done

    def __post_init__(self) -> None:
        assert self.read == self.kept + sum(self.skipped.values()), (self.read, self.kept, self.skipped)
        assert self.kept == sum(self.sizes.values()), (self.kept, self.sizes)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def load_splits(config: DataConfig, reporter: Reporter = SILENT) -> tuple[Splits, DataReceipt]:
    """Read, check and split a data set; raise DataError for what cannot be used."""
    sources = read(config.path, reporter)
    if not any(len(source.rows) for source in sources):
        raise DataError(f"{redacted(config.path)} holds no rows.", "Each row should hold an instruction and an output.")
    _refuse_empty_parts(sources)
    rows = (row for source in sources for row in source.rows)
    choice = choose(rows, config.format, config.columns, config.on_bad_row)
    key = {
        "sources": [(source.name, source.sha256, source.part) for source in sources],
        "config": config.model_dump(mode="json"),
        "format": VERSION,
    }
    folder, receipt, found = kept(
        "splits", key, lambda folder: _curate(folder, sources, choice, config, reporter).as_dict()
    )
    if found and receipt["read"] >= MANY_ROWS:
        reporter.say(f"The rows of {redacted(config.path)} were read and checked before: {folder} is used.")
    files = [source.rows for source in sources]
    parts = {name: Rows(files, choice, numbers(folder / f"{name}.npy")) for name in receipt["sizes"]}
    reporter.say(columns_told(f"{choice.name} ({choice.why})", receipt["columns"].values(), receipt["not_read"]))
    now = [unread(config.path), *(source.note for source in sources)]  # of what is there now
    receipt["file_notes"] = [*filter(None, now)]
    told: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in receipt.items()}
    return Splits(**parts), DataReceipt(**told)


def _refuse_empty_parts(sources: Sequence[Source]) -> None:
    """Raise DataError for a file that is a part and has no rows: rows of train would stand in for them, unsaid."""
    filled = {source.part for source in sources if len(source.rows)}
    if empty := next((source for source in sources if source.part not in filled), None):
        fix = "Give it some" + (", or remove it: then some of train's take their place." if "train" in filled else ".")
        raise DataError(f"{empty.name} is the {empty.part} part, but holds no rows.", fix)


def question_key(conversation: Conversation) -> str:
    """Join all that the user says in a conversation, with a separator that normalising cannot remove."""
    return " | ".join(conversation.asked)


def _curate(
    folder: Path, sources: Sequence[Source], choice: FormatChoice, config: DataConfig, reporter: Reporter
) -> DataReceipt:
    """Check and split the rows; write the numbers of each part's rows into `folder`."""
    with _scratch(folder) as scratch:
        found = _convert(sources, choice, config.on_bad_row, scratch, reporter)
        questions, hashes = Items(scratch, "questions", bytes.decode), np.frombuffer(found.hashes, np.int64)
        rows, owner = np.frombuffer(found.rows, np.int64), np.frombuffer(found.owner, np.int8)
        index = index_texts(questions, scratch, reporter)
        cluster, near_earlier = clusters(index)
        cluster = found.unrolled.joined(cluster)
        parts = _split(owner, cluster, config)
        leaks = _leaks(hashes, index, found.unrolled, parts)
    for name, part in parts.items():
        np.save(folder / f"{name}.npy", rows[part])
    columns, not_read = columns_read(found.columns, choice)
    return DataReceipt(
        path=redacted(config.path),
        sha256=_content_hash(sources),
        format=choice.name,
        why=choice.why,
        columns=columns,
        not_read=not_read,
        read=len(rows) + found.skipped.total(),
        kept=len(rows),
        skipped=dict(found.skipped),
        first_skipped=tuple(row.problem for row in found.bad),
        exact_duplicates=len(hashes) - len(np.unique(hashes)),
        near_duplicates=int(near_earlier.sum()),
        approximate=not index.exact,
        split=config.split if len(np.unique(owner)) == 1 else "by file",
        sizes={name: len(part) for name, part in parts.items()},
        leaks=leaks,
        notes=_notes(parts, {PARTS[k] for k in np.unique(owner)}, len(rows) - len(np.unique(cluster)), config),
    )


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Give an empty folder for the time of the block, even where a killed process left one."""
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@dataclass
class _Found:
    """What a pass over all rows gives: a few integers for each that is kept, and the rows that are not."""

    rows: array[int] = field(default_factory=lambda: array("q"))  # the row's number among all
    owner: array[int] = field(default_factory=lambda: array("b"))  # its file's part, as an index of PARTS
    hashes: array[int] = field(default_factory=lambda: array("q"))  # of its question
    unrolled: Unrolled = field(default_factory=Unrolled)
    columns: dict[Column, None] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)  # by reason
    bad: list[BadRow] = field(default_factory=list)  # the first SKIPPED_SHOWN


def _convert(
    sources: Sequence[Source], choice: FormatChoice, on_bad_row: str, scratch: Path, reporter: Reporter
) -> _Found:
    """Read every row; its question goes to the scratch folder."""
    found, total = _Found(), sum(len(source.rows) for source in sources)
    every = ((source, row) for source in sources for row in source.rows)
    with reporter.counting("Checking rows", total) as done, Writer(scratch, "questions") as questions:
        for number, (source, row) in enumerate(tallied(every, done)):
            try:
                conversation = to_conversation(row, choice)
            except BadRow as error:
                if on_bad_row == "error":
                    raise
                found.skipped[error.reason] += 1
                found.bad += [error.with_traceback(None)] if len(found.bad) < SKIPPED_SHOWN else []
                continue
            question = question_key(conversation)
            questions.append(question.encode())
            found.hashes.append(hash(question))
            found.unrolled.append(conversation)
            found.rows.append(number)
            found.owner.append(PARTS.index(source.part))
            found.columns |= dict.fromkeys(columns_in(conversation.row, choice))
    bad = found.skipped.total()
    if bad > MOST_SKIPPED * total:
        problem = f"{bad} of {total} rows are unusable, more than {MOST_SKIPPED:.0%}."
        raise DataError(f"{problem} The first: {found.bad[0].problem}", found.bad[0].fix)
    return found


def _split(owner: NDArray[np.int8], cluster: Numbers, config: DataConfig) -> Parts:
    """Split as the files do; what no file is comes out of train, by the configured shares."""
    rows = {name: np.flatnonzero(owner == number) for number, name in enumerate(PARTS)}
    shares = Shares(
        validation=0.0 if len(rows["validation"]) else config.validation_share,
        test=0.0 if len(rows["test"]) else config.test_share,
    )
    train = rows["train"]
    cut = SPLITS[config.split](cluster[train], shares, config.seed)
    return {name: train[part] if name == "train" or not len(rows[name]) else rows[name] for name, part in cut.items()}


def _leaks(hashes: Numbers, index: TextIndex, unrolled: Unrolled, parts: Parts) -> dict[str, dict[str, int]]:
    """Count, in each part held back, the rows whose question stands in train, word for word or nearly so. A row
    with which a row of train begins counts as word for word."""
    held = np.concatenate([parts[name] for name in HELD_BACK])
    near = near_any(index, held, parts["train"])
    exact = np.isin(hashes[held], hashes[parts["train"]]) | unrolled.begins(held, parts["train"])
    cut = len(parts[HELD_BACK[0]])
    return {
        name: {"exact": int(exact[part].sum()), "near": int(near[part].sum())}
        for name, part in zip(HELD_BACK, (slice(cut), slice(cut, None)), strict=True)
    }


def _content_hash(sources: Sequence[Source]) -> str:
    """Return the sha256 of the file, or of the files' own."""
    if len(sources) == 1:
        return sources[0].sha256
    return hashlib.sha256("".join(source.sha256 for source in sources).encode()).hexdigest()


def _notes(parts: Parts, given: Collection[str], alike: int, config: DataConfig) -> tuple[str, ...]:
    """Say which parts are empty, what is lost with them, and where rows that stay together are the reason: all but the
    first of each cluster, `alike` in number. The parts that are `given` have files of their own."""
    lost = {
        "train": "there is nothing to train on",
        "validation": "there will be no validation loss, and the last weights are kept",
        "test": "there will be no final scores",
    }
    notes = [f"The {name} part is empty: {lost[name]}." for name, part in parts.items() if not len(part)]
    shares = {"validation": config.validation_share, "test": config.test_share}
    cut = [name for name in HELD_BACK if name not in given]
    rows, wanted = sum(map(len, parts.values())), sum(shares[name] for name in cut)
    held = sum(len(parts[name]) for name in cut)
    if config.split == "leak_aware" and alike and held < 0.5 * wanted * (held + len(parts["train"])) - 1:
        why = f"{alike} of {rows} rows are near-duplicates or begin another, and stay together"
        notes.append(
            f"Fewer rows than asked are held back: {why}. Give test rows as a file, or set data.split=in_order."
        )
    return tuple(notes)
