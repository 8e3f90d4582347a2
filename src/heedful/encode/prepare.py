"""Splits of conversations -> examples to train and validate on, and the receipt of what became of each row."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from heedful.config import Config
from heedful.encode.batch import Collator, plan
from heedful.encode.tokenise import Encoder, EncodingReceipt, build_encoder
from heedful.errors import DataError
from heedful.records import Splits, TokenizedExample

MOST_WIDTHS = 1000  # the receipt lists no more


@dataclass(frozen=True)
class Prepared:
    """A data set encoded for one model."""

    splits: Splits
    encoder: Encoder
    train: list[TokenizedExample]
    validation: list[TokenizedExample]
    receipt: dict[str, Any]

    def fingerprint(self) -> str:
        """Hash the examples: it differs when data, split, template, tokenizer or supervision do."""
        digest = hashlib.sha256()
        for example in (*self.train, *self.validation):
            digest.update(np.int64(len(example)).tobytes() + example.ids.tobytes() + example.supervised.tobytes())
        return digest.hexdigest()


def prepare(
    config: Config, splits: Splits, data_receipt: dict[str, Any], tokenizer: PreTrainedTokenizerBase, positions: int
) -> Prepared:
    """Encode the training and validation rows."""
    encoder = build_encoder(config.encode, tokenizer, positions)
    train, counts = encoder.encode(splits.train)
    if not train:
        raise DataError(f"{config.data.path}: no row is left to train on.", "Look at `heedful check` for the reasons.")
    validation, _ = encoder.encode(splits.validation)
    encoding = _describe(encoder, train, counts)
    encoding["batch_widths"] = batch_widths(config, train)
    return Prepared(splits, encoder, train, validation, {"data": data_receipt, "encoding": encoding})


def batch_widths(config: Config, examples: Sequence[TokenizedExample]) -> list[int]:
    """Give the widths of the first epoch's batches in the padded layout: the longest row without its last token."""
    train = config.train
    groups = plan(len(examples), train.batch_size, train.seed, 0, train.drop_last)
    return [max(len(examples[i]) for i in group) - 1 for group in groups[:MOST_WIDTHS]]


def make_collator(config: Config, encoder: Encoder, layout: str) -> Collator:
    pad = encoder.tokenizer.pad_token_id
    encode = config.encode
    return Collator(layout, 0 if pad is None else int(pad), encode.prompt_weight, encode.batch_tokens)


def _describe(encoder: Encoder, examples: Sequence[TokenizedExample], counts: EncodingReceipt) -> dict[str, Any]:
    return {
        "template": encoder.template.name,
        "stop_token": encoder.template.stop_token(),
        "limit": counts.limit,
        "rows": counts.rows,
        "rows_with_target": sum(bool(example.supervised.any()) for example in examples),
        "stop_supervised": counts.stop_supervised,
        "prompt_tokens": spread(counts.prompt_tokens),
        "answer_tokens": spread(counts.answer_tokens),
        "truncated": counts.truncated,
        "dropped": counts.dropped,
        "special_tokens_in_text": counts.special_tokens_in_text,
        "cut_in_pieces": counts.cut_in_pieces,
    }


def spread(numbers: Sequence[int]) -> dict[str, float]:
    """Give the least, the median, the 95th percentile and the most."""
    values = np.asarray(numbers)
    return {
        "min": float(values.min()),
        "median": float(np.median(values)),
        "p95": float(np.percentile(values, 95)),
        "max": float(values.max()),
        "sum": float(values.sum()),
    }
