"""Stage 1: rows -> conversations."""

from heedful.data.curate import DataReceipt, load_splits

__all__ = ["DataReceipt", "load_splits"]
