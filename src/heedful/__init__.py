"""From a file of instructions to an assistant, on the machine you have.

The verbs of the command line under the same names, with the same defaults; each imports what it needs when called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heedful.pipeline import check, evaluate, load, train

__version__ = "0.1.0"
__all__ = ["check", "evaluate", "load", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from heedful import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'heedful' has no attribute '{name}'")
