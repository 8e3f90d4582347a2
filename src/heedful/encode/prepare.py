"""Splits of conversations -> examples to train and validate on, and the receipt of what became of each row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from heedful.address import redacted
from heedful.config import Config, TrainConfig
from heedful.data.formats import MOST_SKIPPED
from heedful.data.rows import Rows
from heedful.encode.account import EncodingReceipt, left_out_in_words, not_learned, not_scored
from heedful.encode.batch import MOST_TOKENS, Collator
from heedful.encode.examples import VERSION, Examples, ids_type, write_examples
from heedful.encode.order import Order, families
from heedful.encode.scored import account_for, scoring
from heedful.encode.tokenise import CHUNK, Encoder, build_encoder
from heedful.encode.view import token_view
from heedful.errors import DataError
from heedful.model.vocabulary import embeddings_of
from heedful.records import Conversation, Splits
from heedful.reporter import MANY_ROWS, SILENT, Reporter
from heedful.system.store import kept

MOST_WIDTHS = 1000  # the receipt lists no more
BINS = 30  # of a histogram, at most
SHOWN = 3  # rows of which the receipt holds every token


@dataclass(frozen=True)
class Prepared:
    """A data set encoded for one model."""

    splits: Splits
    encoder: Encoder
    train: Examples
    validation: Examples
    order: Order
    receipt: dict[str, Any]
    longest: int  # tokens of the longest example to train on
    hashes: tuple[str, str]  # of the examples of train and validation
    scored: int  # test rows that can be

    def fingerprint(self) -> str:
        """Hash the examples: it differs when data, split, template, tokenizer or supervision do."""
        return hashlib.sha256("".join(self.hashes).encode()).hexdigest()


def prepare(
    config: Config,
    splits: Splits,
    data_receipt: dict[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    positions: int,
    reporter: Reporter = SILENT,
) -> Prepared:
    """Encode the training and validation rows, or find them encoded in the cache; of the test rows find out which can
    be scored."""
    encoder = build_encoder(config.encode, tokenizer, positions)
    identity = encoder.identity()
    train, facts = _encoded(encoder, identity, splits.train, "train", reporter)
    counts = EncodingReceipt(**facts["receipt"])
    validation, others = _encoded(encoder, identity, splits.validation, "validation", reporter)
    validated = EncodingReceipt(**others["receipt"])
    tested = _tested(scoring(encoder, positions), splits.test, reporter)
    rows = len(splits.train) + len(splits.validation) + len(splits.test)
    _refuse_bad((counts, validated, tested), [*counts.unlearned, *validated.unlearned], rows, config.data.on_bad_row)
    if not train:
        raise _nothing_left(redacted(config.data.path), splits, counts, encoder.max_tokens < positions)
    encoding = _describe(encoder, train, counts)
    encoding |= {"not_validated": not_learned(validated), "not_scored": not_scored(tested)}
    order = order_of(config.train, train)
    encoding["batch_widths"] = batch_widths(order, train)
    encoding["shared_beginnings"] = None if order.families is None else _shared_beginnings(order.families)
    first = [
        token_view(encoder, train[k], str(splits.train[train.number(k)].place)) for k in range(min(SHOWN, len(train)))
    ]
    receipt = {"data": data_receipt, "encoding": encoding, "rows": first}
    hashes = facts["sha256"], others["sha256"]
    return Prepared(splits, encoder, train, validation, order, receipt, int(train.tokens.max()), hashes, tested.rows)


def _refuse_bad(parts: Sequence[EncodingReceipt], unlearned: Sequence[str], rows: int, on_bad_row: str) -> None:
    """Refuse rows that the template refuses or in which nothing would be learned, unless bad rows are skipped and
    these are few of all."""
    refused = {place: problem for part in parts for place, problem in part.refused.items()}
    few = len(refused) + len(unlearned) <= MOST_SKIPPED * rows
    if (not refused and not unlearned) or (few and on_bad_row == "skip"):
        return
    problems, fixes = [], []
    if refused:
        place, problem = next(iter(refused.items()))
        problems += [f"{place}: {problem.rstrip('.')} ({len(refused)} of {rows} rows)."]
        fixes += ["Change or remove what the template refuses, or choose --set encode.template=alpaca."]
    if unlearned:
        problem = "every assistant's message has the weight 0, so nothing would be learned"
        problems += [f"{unlearned[0]}: {problem} ({len(unlearned)} of {rows} rows)."]
        fixes += ["Give one of them the weight 1, or remove the row."]
    if few:
        fixes += ["Or let --on-bad-row skip leave out what is bad."]
    elif on_bad_row == "skip":
        fixes += [f"At most {MOST_SKIPPED:.0%} of the rows are skipped."]
    raise DataError(" ".join(problems), " ".join(fixes))


def _nothing_left(path: str, splits: Splits, counts: EncodingReceipt, may_be_longer: bool) -> DataError:
    """Say why there is no example to train on."""
    if splits.train:
        longer = "Raise encode.max_tokens." if may_be_longer else "Choose a model that takes longer rows."
        fix = longer if counts.dropped else "Add rows."
        why = left_out_in_words(not_learned(counts))
        return DataError(f"{path}: 0 of {len(splits.train):,} rows are left to train on: {why}.", fix)
    rows = len(splits.validation) + len(splits.test)
    return DataError(f"{path}: 0 of {rows:,} rows are left to train on; the split holds them back.", "Add rows.")


def _encoded(
    encoder: Encoder, identity: dict[str, Any], rows: Sequence[Conversation], part: str, reporter: Reporter
) -> tuple[Examples, dict[str, Any]]:
    """Return the examples of some rows, from the cache where the same were encoded alike before."""
    ids = ids_type(embeddings_of(encoder.tokenizer))
    key = {"rows": _identity(rows), "encoder": identity, "chunk": CHUNK, "format": VERSION}

    def write(folder: Path) -> dict[str, Any]:
        with reporter.counting(f"Encoding the {part} rows", len(rows)) as done:
            return write_examples(folder, encoder, rows, ids, done)

    folder, facts, found = kept("examples", key, write)
    if found and len(rows) >= MANY_ROWS:
        reporter.say(f"The {part} rows were encoded before: {folder} is used.")
    name = rows.name if isinstance(rows, Rows) else lambda number: rows[number].id
    return Examples(folder, ids, name), facts


def _tested(encoder: Encoder, rows: Sequence[Conversation], reporter: Reporter) -> EncodingReceipt:
    """Account for the test rows, of which no examples are kept."""
    key = {"tested": _identity(rows), "encoder": encoder.identity(), "chunk": CHUNK, "format": VERSION}

    def account(folder: Path) -> dict[str, Any]:
        with reporter.counting("Encoding the test rows", len(rows)) as done:
            return asdict(account_for(encoder, rows, done))

    return EncodingReceipt(**kept("examples", key, account).facts)


def _identity(rows: Sequence[Conversation]) -> Any:
    """Return what the examples of some rows depend on: the files of the rows, or else their texts."""
    if isinstance(rows, Rows):
        return rows.identity()
    return [[row.id, str(row.place), [asdict(message) for message in row.messages]] for row in rows]


def order_of(train: TrainConfig, examples: Examples) -> Order:
    """Decide which rows make an update."""
    possible = train.group_by_beginning and train.batch_size > 3  # of which half, two rows, may be of a family
    together = families(examples) if possible else None
    return Order(len(examples), train.batch_size, train.seed, train.drop_last, together)


def batch_widths(order: Order, examples: Examples) -> list[int]:
    """Return the widths of the first epoch's batches in the padded layout: the longest row without its last token."""
    return [int(examples.tokens[group].max()) - 1 for group in order.epoch(0)[:MOST_WIDTHS]]


def _shared_beginnings(families: NDArray[np.int64]) -> dict[str, int]:
    """Count the rows that share a long beginning with others, and those beginnings."""
    rows = np.unique(families, return_counts=True)[1]
    return {"rows": int(rows[rows > 1].sum()), "beginnings": int((rows > 1).sum())}


def make_collator(config: Config, encoder: Encoder, layout: str) -> Collator:
    fill = int(encoder.tokenizer.eos_token_id)  # not the padding: of its embedding of zeros Gemma 3n makes NaN
    encode = config.encode
    tokens = MOST_TOKENS if encode.batch_tokens == "auto" else encode.batch_tokens
    return Collator(layout, fill, encode.prompt_weight, tokens)


def _describe(encoder: Encoder, examples: Examples, counts: EncodingReceipt) -> dict[str, Any]:
    learned = examples.answer_tokens > 0 if encoder.supervise == "response" else examples.tokens > 1
    return {
        "template": encoder.template.label,
        "stop_token": encoder.template.stop_token(),
        "limit": counts.limit,
        "rows": counts.rows,
        "rows_with_target": int(learned.sum()),
        "stop_supervised": counts.stop_supervised,
        "prompt_tokens": spread(examples.tokens - examples.answer_tokens),
        "answer_tokens": spread(examples.answer_tokens),
        "prompt_lengths": histogram(examples.tokens - examples.answer_tokens),
        "answer_lengths": histogram(examples.answer_tokens),
        "truncated": counts.truncated,
        "dropped": counts.dropped,
        "unlearned": counts.unlearned,
        "refused": counts.refused,
        "special_tokens_in_text": counts.special_tokens_in_text,
        "cut_in_pieces": counts.cut_in_pieces,
    }


def spread(values: NDArray[np.uint32]) -> dict[str, float]:
    """Return the least, the median, the 95th percentile, the most and the sum."""
    return {
        "min": float(values.min()),
        "median": float(np.median(values)),
        "p95": float(np.percentile(values, 95)),
        "max": float(values.max()),
        "sum": float(values.sum()),
    }


def histogram(values: NDArray[np.uint32]) -> dict[str, list[int]]:
    """Count rows by length: bins of one width, a round number of tokens, from 0 to the longest row."""
    width = next(w for w in _round_widths() if values.max() < w * BINS)
    edges = np.arange(0, int(values.max()) + width + 1, width)
    return {"edges": edges.tolist(), "rows": np.histogram(values, edges)[0].tolist()}


def _round_widths() -> Iterator[int]:
    """Return 1, 2, 5, 10, 20, 50, ..."""
    return (number * 10**power for power in count() for number in (1, 2, 5))
