"""A DataConfig -> the three parts of its data set, and the receipt that accounts for every row.

rows read == rows kept + rows skipped, by reason. What the user asks in a row decides what is a duplicate and what
leaks: the same question in train and test is a leak, whatever the answers.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from heedful.config import DataConfig
from heedful.data.formats import Choice, choose, to_conversation
from heedful.data.near import Ids, Likeness, clusters, compare, near_any
from heedful.data.sources import Source, read
from heedful.data.split import SPLITS, Part, Parts, Shares
from heedful.data.turns import BadRow
from heedful.errors import DataError
from heedful.records import Conversation, Splits

MOST_SKIPPED = 0.05  # of the rows
NAMED = 10  # skipped rows that the receipt names


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
    leaks: Mapping[str, Mapping[str, int]]  # part -> rows whose question stands in train, exact and near
    notes: tuple[str, ...]

    def __post_init__(self) -> None:
        assert self.read == self.kept + sum(self.skipped.values()), (self.read, self.kept, self.skipped)
        assert self.kept == sum(self.sizes.values()), (self.kept, self.sizes)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def load(config: DataConfig) -> tuple[Splits, DataReceipt]:
    """Read, check and split a data set; raise DataError for what cannot be used."""
    sources = read(config.path)
    rows = [row for source in sources for row in source.rows]
    if not rows:
        raise DataError(f"{config.path} holds no rows.", "Each row should hold an instruction and an output.")
    choice = choose(rows, config.format, config.columns)
    conversations, owner, bad = _convert(sources, choice, config.on_bad_row)
    questions = [asked(conversation) for conversation in conversations]
    likeness = compare(questions)
    cluster, near_earlier = clusters(likeness)
    parts = _split(owner, cluster, config)
    columns, not_read = _columns(conversations, choice)
    receipt = DataReceipt(
        path=config.path,
        sha256=_content_hash(sources),
        format=choice.name,
        why=choice.why,
        columns=columns,
        not_read=not_read,
        read=len(rows),
        kept=len(conversations),
        skipped=dict(Counter(row.reason for row in bad)),
        first_skipped=tuple(row.problem for row in bad[:NAMED]),
        exact_duplicates=len(questions) - len(set(questions)),
        near_duplicates=int(near_earlier.sum()),
        approximate=not likeness.exact,
        split=config.split if len(set(owner)) == 1 else "by file",
        sizes={name: len(part) for name, part in parts.items()},
        leaks=_leaks(questions, likeness, parts),
        notes=_notes(parts, int(near_earlier.sum()), config),
    )
    return Splits(**{name: tuple(conversations[row] for row in part) for name, part in parts.items()}), receipt


def asked(conversation: Conversation) -> str:
    """Give all that the user says in a conversation, with a mark between texts that outlasts `compare`."""
    texts = (text for turn in conversation.messages if turn.role == "user" for text in (turn.content, turn.input))
    return " | ".join(text for text in texts if text)


def _convert(
    sources: Sequence[Source], choice: Choice, on_bad_row: str
) -> tuple[list[Conversation], list[Part], list[BadRow]]:
    """Read every row: the conversations, the part that each one's file is, and the rows left out."""
    conversations: list[Conversation] = []
    owner: list[Part] = []
    bad: list[BadRow] = []
    for source in sources:
        for row in source.rows:
            try:
                conversations.append(to_conversation(row, choice))
                owner.append(source.part)
            except BadRow as error:
                if on_bad_row == "error":
                    raise
                bad.append(error)
    if len(bad) > MOST_SKIPPED * (len(bad) + len(conversations)):
        problem = f"{len(bad)} of {len(bad) + len(conversations)} rows are unusable, more than {MOST_SKIPPED:.0%}."
        raise DataError(f"{problem} The first: {bad[0].problem}", bad[0].fix)
    return conversations, owner, bad


def _split(owner: Sequence[Part], cluster: Ids, config: DataConfig) -> Parts:
    """Split as the files do; what no file is comes out of train, by the configured shares."""
    given = set(owner)
    shares = Shares(
        validation=0.0 if "validation" in given else config.validation_share,
        test=0.0 if "test" in given else config.test_share,
    )
    rows = {name: [row for row, part in enumerate(owner) if part == name] for name in given}
    train = rows.get("train", [])
    cut = SPLITS[config.split]([int(cluster[row]) for row in train], shares, config.seed)
    parts: Parts = {name: [train[row] for row in part] for name, part in cut.items()}
    return parts | {name: part for name, part in rows.items() if name != "train"}


def _leaks(questions: Sequence[str], likeness: Likeness, parts: Parts) -> dict[str, dict[str, int]]:
    """Count, in each part held back, the rows whose question stands in train, word for word or nearly so."""
    trained = {questions[row] for row in parts["train"]}
    train = np.array(parts["train"], dtype=np.int64)
    found = {}
    for name in ("validation", "test"):
        rows = parts[name]
        near = near_any(likeness, np.array(rows, dtype=np.int64), train)
        found[name] = {"exact": sum(questions[row] in trained for row in rows), "near": int(near.sum())}
    return found


def _columns(conversations: Sequence[Conversation], choice: Choice) -> tuple[dict[str, str], tuple[str, ...]]:
    """Give the columns that were read, by field, and those that were not."""
    present = dict.fromkeys(key for conversation in conversations for key in conversation.row)
    wanted = {field: choice.columns.get(field, field) for field in choice.fields}
    used = {field: column for field, column in wanted.items() if column in present}
    return used, tuple(column for column in present if column not in used.values())


def _content_hash(sources: Sequence[Source]) -> str:
    """Give the sha256 of the file, or of the files' own."""
    if len(sources) == 1:
        return sources[0].sha256
    return hashlib.sha256("".join(source.sha256 for source in sources).encode()).hexdigest()


def _notes(parts: Parts, near_duplicates: int, config: DataConfig) -> tuple[str, ...]:
    """Say which parts are empty, what is lost with them, and where near-duplicates are the reason."""
    lost = {
        "train": "there is nothing to train on",
        "validation": "there will be no validation loss, and the last weights are kept",
        "test": "there will be no final scores",
    }
    notes = [f"The {name} part is empty: {lost[name]}." for name, part in parts.items() if not part]
    rows, wanted = sum(map(len, parts.values())), config.test_share + config.validation_share
    if config.split == "leak_aware" and near_duplicates and rows - len(parts["train"]) < 0.5 * wanted * rows - 1:
        why = f"{near_duplicates} of {rows} rows are near-duplicates, which stay together"
        notes.append(
            f"Fewer rows than asked are held back: {why}. Give test rows as a file, or set data.split=in_order."
        )
    return tuple(notes)
