"""An object that is alone in a JSON file, where rows should stand -> what it seems to be, and what to do about it."""

from __future__ import annotations

from typing import Any

from heedful.data.fields import FORMATS, Fields
from heedful.errors import listed


def not_rows(value: Fields) -> tuple[str, str]:
    """Say what the object is and what to do with it."""
    problem, inner = "an object, not an array of rows", value.values()
    lists = [key for key, held in value.items() if isinstance(held, list) and held and isinstance(held[0], dict)]
    if value and all(map(_is_column, inner)):
        return "an object of columns, not an array of rows", "Save the rows: in pandas, to_json(orient='records')."
    if any(form.fits(value) for form in FORMATS.values()):
        return problem, "Put [ before it and ] after it."
    if len(lists) == 1:
        held, rows = lists[0], len(value[lists[0]])
        return f'{problem}; its "{held}" holds a list of {rows}', f'Save what "{held}" holds as a file of its own.'
    if lists:
        return f"{problem}; its {listed(lists)} hold lists", "Save what each of them holds as a file of its own."
    if value and all(isinstance(held, dict) and any(not key.isdigit() for key in held) for held in inner):
        return f"{problem}; it holds {len(value)} by name", "Save them without the names: [{...}, {...}]."
    if any(key in form.fields for form in FORMATS.values() for key in value):
        return problem, "Put [ before it and ] after it."
    has = f"; it has {listed(value)}" if value else ""
    return problem + has, "Rows stand in an array: [{...}, {...}]."


def _is_column(held: Any) -> bool:
    """Say whether this is a row number's values, as pandas writes a column, or a list of values that are no rows."""
    if isinstance(held, dict):
        return all(key.isdigit() for key in held)
    return isinstance(held, list) and not any(isinstance(item, dict) for item in held)
