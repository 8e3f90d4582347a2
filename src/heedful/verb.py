"""Lets a stage's package be called as the verb of its name: `heedful.train` is a folder, `heedful.train(...)` works."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class Verb(ModuleType):
    """A package that is also the pipeline's function of its name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        pipeline = importlib.import_module("heedful.pipeline")
        return getattr(pipeline, self.__name__.rpartition(".")[2])(*args, **kwargs)


def make_callable(package: str) -> None:
    """Turn an imported package into a Verb."""
    sys.modules[package].__class__ = Verb
