"""Lets a stage's package be called as the verb of its name: `heedful.train` is a folder, `heedful.train(...)` works."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package that is also the pipeline's function of its name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _function(self)(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(_function(self))

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        # the verb's own words, and before them its signature, which help() tells of no package
        function = _function(self)
        return f"{function.__name__}{inspect.signature(function)}\n\n{inspect.getdoc(function)}"


def _function(package: ModuleType) -> Callable[..., Any]:
    pipeline = importlib.import_module("heedful.pipeline")
    function: Callable[..., Any] = getattr(pipeline, package.__name__.rpartition(".")[2])
    return function


def make_callable(package: str) -> None:
    """Let an imported package be called as the verb of its name."""
    sys.modules[package].__class__ = CallablePackage
