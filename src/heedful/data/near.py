"""Texts -> which of them say nearly the same: the cosine of their character 3-gram counts is at least 0.9.

Up to EXACT_ROWS texts every pair is looked at: counts folded into a few hundred buckets bound the cosine from above,
which is one dense product, and what passes the bound is computed exactly. Above that, pairs must first meet in a
MinHash bucket: time grows with the rows instead of their square, a pair may be missed, and `exact` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

THRESHOLD = 0.9 - 1e-9  # the slack takes in pairs that are 0.9 but for rounding
EXACT_ROWS = 20_000
BANDS, BAND_HASHES = 32, 6
CHUNK = 200_000  # pairs compared at a time

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]
Pairs = tuple[Ids, Ids]


@dataclass(frozen=True, eq=False)
class Likeness:
    """Texts made ready to be compared."""

    vectors: sparse.csr_array  # [distinct, grams] float64: counts, each row of norm 1
    distinct: Ids  # [texts]: each text's row of vectors; numbered by first appearance
    exact: bool


def compare(texts: Sequence[str]) -> Likeness:
    """Count the 3-grams of each text; case and the width of white space do not matter."""
    numbers: dict[str, int] = {}
    plain = (" " + " ".join(text.lower().split()) + " " for text in texts)
    distinct = np.array([numbers.setdefault(text, len(numbers)) for text in plain], dtype=np.int64)
    return Likeness(_vectors(list(numbers)), distinct, len(numbers) <= EXACT_ROWS)


def clusters(likeness: Likeness) -> tuple[Ids, Flags]:
    """Give each text the number of its cluster, and say whether an earlier text is near it."""
    everything = np.arange(likeness.vectors.shape[0])
    labels, near_earlier = everything.copy(), np.zeros(len(everything), dtype=bool)
    for rows, others in _candidates(likeness, everything, everything):
        # In a large cluster nearly every pair is near; what is already known is not computed again.
        news = (others < rows) & ~(near_earlier[rows] & (labels[rows] == labels[others]))
        rows, others = _near(likeness.vectors, rows[news], others[news])
        near_earlier[rows] = True
        labels = _merge(labels, rows, others)
    first = np.zeros(len(likeness.distinct), dtype=bool)
    first[np.unique(likeness.distinct, return_index=True)[1]] = True
    return labels[likeness.distinct], near_earlier[likeness.distinct] | ~first


def near_any(likeness: Likeness, rows: Ids, others: Ids) -> Flags:
    """Say for each text of `rows` whether one of the texts `others` is near it."""
    rows, others = likeness.distinct[rows], np.unique(likeness.distinct[others])
    found = np.zeros(likeness.vectors.shape[0], dtype=bool)
    found[others] = True
    for left, right in _candidates(likeness, np.unique(rows[~found[rows]]), others):
        news = ~found[left]
        left, _ = _near(likeness.vectors, left[news], right[news])
        found[left] = True
    result: Flags = found[rows]
    return result


def _vectors(texts: list[str]) -> sparse.csr_array:
    """Count 3-grams into rows of norm 1. [texts, grams]"""
    parts = [_count(texts[start : start + 4096]) for start in range(0, len(texts), 4096)]
    grams = np.unique(np.concatenate([known for known, _ in parts])) if parts else np.zeros(0, np.int64)
    for known, part in parts:
        part.indices = np.searchsorted(grams, known)[part.indices].astype(part.indptr.dtype)
        part.resize(part.shape[0], len(grams))
    if not parts:
        return sparse.csr_array((0, 0))
    vectors = sparse.csr_array(sparse.vstack([part for _, part in parts], format="csr"))
    norms = np.sqrt(np.add.reduceat(vectors.data**2, vectors.indptr[:-1]))
    vectors.data /= np.repeat(norms, np.diff(vectors.indptr))
    return vectors


def _count(texts: Sequence[str]) -> tuple[Ids, sparse.csr_array]:
    """Count the 3-grams of texts of at least three characters: the grams met, and the counts by text."""
    points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<u4").astype(np.int64)
    owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    whole = owner[:-2] == owner[2:]  # a gram must not reach into the next text
    codes = (points[:-2] << 42 | points[1:-1] << 21 | points[2:])[whole]  # a code point has at most 21 bits
    grams, column = np.unique(codes, return_inverse=True)
    counts = sparse.csr_array((np.ones(len(column)), (owner[:-2][whole], column)), shape=(len(texts), len(grams)))
    return grams, counts


def _candidates(likeness: Likeness, rows: Ids, others: Ids) -> Iterator[Pairs]:
    """Give pairs (row, other) that may be near, at most CHUNK at a time; some may come twice."""
    search = _folded_pairs if likeness.exact else _bucket_pairs
    for left, right in search(likeness.vectors, rows, others) if len(rows) and len(others) else ():
        heads = np.unique(left, return_index=True)[1]
        yield left[heads], right[heads]  # one pair of each row tells most of what is to be known of a large cluster
        for start in range(0, len(left), CHUNK):
            yield left[start : start + CHUNK], right[start : start + CHUNK]


def _folded_pairs(vectors: sparse.csr_array, rows: Ids, others: Ids) -> Iterator[Pairs]:
    """Give every pair whose cosine may reach the threshold.

    Counts are never negative, so adding columns together can only add products: with x, y folded into buckets
    fold(x) · fold(y) >= x · y. Eight buckets for each gram of a usual text keep what is added near 0.1.
    """
    width = int(np.clip(8 * vectors.nnz / vectors.shape[0], 512, 8192))
    bucket = np.random.default_rng(0).integers(0, width, vectors.shape[1])
    folded = sparse.csr_array((vectors.data, bucket[vectors.indices], vectors.indptr), (vectors.shape[0], width))
    dense = folded.toarray().astype(np.float32)
    right = dense[others]
    for start in range(0, len(rows), 1024):
        block = rows[start : start + 1024]
        end = start + 1024 if rows is others else len(right)  # all with all: each pair is needed once
        near = np.nonzero(dense[block] @ right[:end].T >= THRESHOLD - 1e-4)  # float32 rounds at 1e-7
        yield block[near[0]], others[near[1]]


def _bucket_pairs(vectors: sparse.csr_array, rows: Ids, others: Ids) -> Iterator[Pairs]:
    """Give the pairs that meet in a MinHash bucket, two for each row and band: linear in the rows.

    Two texts with a share J of common grams fall into one bucket of a band with probability J ** BAND_HASHES.
    """
    random = np.random.default_rng(0)
    for _ in range(BANDS):
        key = _band_keys(vectors, random)
        order = others[np.lexsort((others, key[others]))]
        place = key[order] * len(key) + order  # sorted, as order is by key and then by number
        for position in (
            np.searchsorted(place, key[rows] * len(key)),  # the first of the bucket
            np.searchsorted(place, key[rows] * len(key) + rows) - 1,  # the last before the row itself
        ):
            right = order[np.clip(position, 0, len(order) - 1)]
            meet = (key[right] == key[rows]) & (right != rows)
            yield rows[meet], right[meet]


def _band_keys(vectors: sparse.csr_array, random: np.random.Generator) -> Ids:
    """Number the buckets of one band: texts share one if BAND_HASHES random orders give them the same first gram."""
    least = np.empty((BAND_HASHES, vectors.shape[0]), dtype=np.int64)
    for hashes in least:
        ranks = random.permutation(vectors.shape[1]).astype(np.int32)
        hashes[:] = np.minimum.reduceat(ranks[vectors.indices], vectors.indptr[:-1])
    keys: Ids = np.zeros(vectors.shape[0], dtype=np.int64)
    for hashes in least:
        keys = np.unique(keys * vectors.shape[1] + hashes, return_inverse=True)[1]
    return keys


def _near(vectors: sparse.csr_array, rows: Ids, others: Ids) -> Pairs:
    """Keep the pairs whose cosine reaches the threshold."""
    cosine = np.asarray(vectors[rows].multiply(vectors[others]).sum(axis=1)).ravel()
    return rows[cosine >= THRESHOLD], others[cosine >= THRESHOLD]


def _merge(labels: Ids, rows: Ids, others: Ids) -> Ids:
    """Give the clusters that near pairs join the same number."""
    if not len(rows):
        return labels
    edges = sparse.coo_array((np.ones(len(rows)), (labels[rows], labels[others])), shape=(len(labels), len(labels)))
    merged: Ids = connected_components(edges, directed=False)[1].astype(np.int64)
    return merged[labels]
