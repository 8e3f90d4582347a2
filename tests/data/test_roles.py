"""Every name that exports give to a role is read as that role."""

from __future__ import annotations

import pytest

from heedful.data.formats import FormatChoice, to_conversation
from heedful.data.readers import RawRow
from heedful.records import Place

NAMES = {  # of roles in `messages` and in `conversations`
    "system": ("system developer", "system"),
    "user": ("user", "human user"),
    "assistant": ("assistant", "gpt assistant chatgpt bing bard model function_call tool_call"),
    "tool": ("tool function", "tool observation function_response tool_response"),
}
CASES = [
    (form, role, name)
    for role, names in NAMES.items()
    for form, some in zip(("messages", "sharegpt"), names, strict=True)
    for name in some.split()
]


@pytest.mark.parametrize(("form", "role", "name"), CASES)
def test_a_role_by_any_of_its_names(form: str, role: str, name: str) -> None:
    usual = {"messages": ("user", "assistant"), "sharegpt": ("human", "gpt")}[form]
    names = {
        "system": (name, *usual),
        "user": (name, usual[1]),
        "assistant": (usual[0], name),
        "tool": (*usual, name, usual[1]),
    }[role]
    keys, field = {"messages": (("role", "content"), "messages"), "sharegpt": (("from", "value"), "conversations")}[
        form
    ]
    row = {field: [dict(zip(keys, (said, "text"), strict=True)) for said in names]}
    found = to_conversation(RawRow(row, Place("rows.json", 1)), FormatChoice(form, "", {}))
    assert [turn.role for turn in found.messages][names.index(name)] == role
