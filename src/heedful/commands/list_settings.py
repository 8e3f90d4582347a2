"""`heedful train --settings`: every setting with its default, what it may be, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import Any

from rich.text import Text

from heedful.config import Config
from heedful.report import screen

KINDS = {
    "integer": "whole number", "number": "number", "boolean": "true | false", "string": "text", "null": "null",
    "array": "list of texts", "object": "names by name",
}  # fmt: skip
LIMITS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
INDENT = " " * 4
ALSO = {"train.batch_size": " | auto"}  # what becomes a number before it is checked


def explain() -> list[tuple[str, str, str, str]]:
    """List (leaf, default, permitted, description) of every setting, in order."""
    rows = []
    for section, defaults in Config():
        cls = type(defaults)
        schemas = cls.model_json_schema()["properties"]
        for key, info in cls.model_fields.items():
            leaf, default = f"{section}.{key}", getattr(defaults, key)
            shown = "null" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
            rows.append(
                (leaf, shown, permitted(schemas[key]) + ALSO.get(leaf, ""), " ".join((info.description or "").split()))
            )
    return rows


def permitted(schema: Mapping[str, Any]) -> str:
    """Describe what a JSON schema permits, as in "whole number from 1 | null"."""
    if "anyOf" in schema:
        return " | ".join(permitted(one) for one in schema["anyOf"])
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return " | ".join(schema["enum"])
    limits = (f"{LIMITS[key]} {_number(schema[key])}" for key in LIMITS if key in schema)
    return " ".join([KINDS[schema["type"]], *limits])


def _number(limit: float) -> str:
    return "2**63" if limit == 2**63 else f"{limit:g}"


def list_settings() -> None:
    """Print each as `--set` takes it, with what it may be, and its meaning below."""
    for leaf, default, kind, meaning in explain():
        screen.out.print(Text.assemble((leaf, "bold"), f"={default}  ", (kind, "dim")), soft_wrap=True)
        screen.out.print(Text(fill(meaning, screen.out.width, initial_indent=INDENT, subsequent_indent=INDENT)))
