"""Conversations -> which of them stand whole at the beginning of others, as where each answer has a row of its own.

[u1, a1] is the beginning of [u1, a1, u2, a2]: who learns the second has seen the first, its answer included. Memory
holds one number for each row, and two for each earlier answer of a row with several.
"""

from __future__ import annotations

from array import array

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.csgraph import connected_components

from heedful.data.split import Flags, Numbers
from heedful.records import Conversation


class Unrolled:
    """The hashes of conversations, each added after the other, and of their beginnings up to an earlier answer."""

    def __init__(self) -> None:
        self._whole, self._earlier, self._owner = array("q"), array("q"), array("q")

    def append(self, conversation: Conversation) -> None:
        said = 0
        for turn in conversation.messages[:-1]:
            said = hash((said, turn.role, turn.content, turn.input))
            if turn.role == "assistant":
                self._earlier.append(said)
                self._owner.append(len(self._whole))
        last = conversation.messages[-1]
        self._whole.append(hash((said, last.role, last.content, last.input)))

    def begins(self, rows: Numbers, others: Numbers) -> Flags:
        """Say for each of `rows` whether one of `others` begins with it and goes on."""
        of_others = np.isin(self._numbers(self._owner), others)
        found: Flags = np.isin(self._numbers(self._whole)[rows], self._numbers(self._earlier)[of_others])
        return found

    def joined(self, clusters: Numbers) -> Numbers:
        """Join the clusters of rows that begin with one another."""
        whole, earlier = self._numbers(self._whole), self._numbers(self._earlier)
        known, row = np.unique(whole, return_index=True)  # equal conversations are in one cluster already
        at = np.minimum(np.searchsorted(known, earlier), len(known) - 1)
        met = known[at] == earlier
        short, long = clusters[row[at[met]]], clusters[self._numbers(self._owner)[met]]
        count = int(clusters.max(initial=0)) + 1
        links = sparse.coo_array((np.ones(len(short)), (short, long)), shape=(count, count))
        labels: Numbers = connected_components(links, directed=False)[1].astype(np.int64)
        return labels[clusters]

    @staticmethod
    def _numbers(values: array[int]) -> Numbers:
        return np.frombuffer(values, np.int64)
