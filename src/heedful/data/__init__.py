"""Stage 1: rows -> conversations."""

from heedful.data.curate import DataReceipt, load

__all__ = ["DataReceipt", "load"]
