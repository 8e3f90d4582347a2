"""Each unusable row is told apart from the others in a sentence."""

from typing import Any

import pytest
from tests.data.raw_rows import ALPACA, A, S, U, chat, raw

from heedful.data.formats import FormatChoice, to_conversation
from heedful.data.readers import RawRow
from heedful.data.turns import BadRow
from heedful.records import Place

BAD: list[tuple[str, Any, str]] = [
    (
        "alpaca",
        {"instruction": "a", "outputs": "b"},
        'field "output" is missing (the row has "outputs"; did you mean "output"?). '
        "Rename the column, or name it with --columns output=outputs.",
    ),
    ("alpaca", {"instruction": "a", "zzz": "b"}, 'field "output" is missing (the row has "instruction" and "zzz").'),
    ("alpaca", {}, 'field "instruction" is missing (the row has no columns).'),
    ("alpaca", {"question": "a", "answer": "b"}, "the row is of the format question_answer, not alpaca."),
    ("alpaca", ALPACA | {"instruction": None}, 'field "instruction" is null, not text. Fill it or remove the row.'),
    ("alpaca", ALPACA | {"output": ""}, 'field "output" is empty. Fill it or remove the row.'),
    ("alpaca", ALPACA | {"output": " \n\u00a0"}, 'field "output" is empty.'),
    ("alpaca", ALPACA | {"output": 42}, 'field "output" is the number 42, not text. Write it in quotes.'),
    ("alpaca", ALPACA | {"output": 10**5000}, 'field "output" is a long number, not text.'),
    ("alpaca", ALPACA | {"output": True}, 'field "output" is true, not text.'),
    ("alpaca", ALPACA | {"output": ["b"]}, 'field "output" is a list, not text.'),
    ("alpaca", ALPACA | {"input": {"c": 1}}, 'field "input" is an object, not text.'),
    ("alpaca", ALPACA | {"output": "\ud83d"}, 'field "output" holds half of a surrogate pair'),
    ("alpaca", ALPACA | {"history": "x"}, 'field "history" is "x", not a list.'),
    ("alpaca", ALPACA | {"history": [["x"]]}, 'a turn of "history" is not a pair.'),
    ("alpaca", ALPACA | {"history": [["x", "y", "z"]]}, 'a turn of "history" is not a pair.'),
    ("alpaca", ALPACA | {"history": ["xy"]}, 'a turn of "history" is not a pair.'),
    ("alpaca", ALPACA | {"history": [["x", ""]]}, "history (assistant) is empty."),
    ("alpaca", "text", 'the row is "text", not an object.'),
    ("alpaca", [], "the row is an empty list, not an object."),
    ("messages", {"messages": []}, 'field "messages" is an empty list, not a list of messages.'),
    ("messages", {"messages": "hi"}, 'field "messages" is "hi", not a list of messages.'),
    ("messages", {"messages": ["hi"]}, 'messages, message 1 is "hi", not an object.'),
    (
        "messages",
        {"messages": [{"roles": "user", "content": "a"}]},
        'messages, message 1 has no "role" (it has "roles" and "content"). Did you mean \'roles\'?',
    ),
    (
        "messages",
        chat(("user", "a"), ("root", "b")),
        'messages, message 2 has the unknown role "root". Known are "system",',
    ),
    ("messages", {"messages": [{"role": 7, "content": "a"}]}, "messages, message 1 has the unknown role the number 7."),
    (
        "messages",
        chat(("user", "a"), ("user", "b"), ("assistant", "c")),
        "message 2 is of the role user, after user; assistant should stand there.",
    ),
    (
        "messages",
        chat(("user", "a"), ("assistant", "b"), ("assistant", "c")),
        "message 3 is of the role assistant, after assistant; user or tool",
    ),
    (
        "messages",
        chat(("assistant", "a")),
        "message 1 is of the role assistant, first; system or user should stand there.",
    ),
    (
        "messages",
        chat(("user", "a"), ("system", "s"), ("assistant", "b")),
        "message 2 is of the role system, after user;",
    ),
    ("messages", chat(("system", "a"), ("system", "s")), "message 2 is of the role system, after system; user should"),
    (
        "messages",
        chat(("user", "a"), ("assistant", "b"), ("user", "c")),
        "the last message is of the role user, not assistant.",
    ),
    ("messages", chat(("system", "a")), "the last message is of the role system, not assistant."),
    ("messages", chat(("system", "")), "the last message is of the role None, not assistant."),
    ("messages", chat(("user", "a"), ("assistant", "")), "messages, message 2 (assistant) is empty."),
    ("messages", chat(("user", "a"), ("assistant", None)), "messages, message 2 (assistant) is null, not text."),
    (
        "messages",
        chat(("user", [{"type": "image_url"}]), ("assistant", "b")),
        "messages, message 1 has a part that is not text.",
    ),
    (
        "messages",
        {"messages": [{"role": "user", "content": "a", "weight": 1}]},
        'messages, message 1 (user) has a "weight" that is the number 1.',
    ),
    (
        "messages",
        {"messages": [U, A | {"train": "yes"}]},
        'messages, message 2 (assistant) has a "train" that is "yes".',
    ),
    (
        "messages",
        {"messages": [U, A | {"weight": 1, "train": False}]},
        'messages, message 2 has a "weight" and a "train" that differ. Keep one of them.',
    ),
    ("messages", {"messages": [{"role": "user", "value": "a"}]}, 'messages, message 1 has no "content" (it has "role"'),
    (
        "messages",
        {"messages": [{"role": "assistant", "content": "a", "weight": 0.5}]},
        'messages, message 1 (assistant) has a "weight" that is the number 0.5.',
    ),
    *(
        (
            "messages",
            {"messages": [U, {"role": "assistant", "content": text, call: [{"name": "f"}]}]},
            f'messages, message 2 has "{call}", which heedful does not learn. Write the call into the text of the',
        )
        for call in ("tool_calls", "function_call")
        for text in (None, "Let me see.")
    ),
    (
        "prompt_completion",
        {"prompt": [U], "completion": [{"role": "assistant", "tool_calls": [{}]}]},
        'completion, message 1 has "tool_calls", which',
    ),
    (
        "sharegpt",
        {"conversations": [{"from": "human", "value": "a"}, {"from": "alien", "value": "b"}]},
        'conversations, message 2 has the unknown role "alien".',
    ),
    (
        "messages",
        {"system": "Be kind.", "messages": [S, U, A]},
        '"system" and "messages" hold different system messages. Keep one of them.',
    ),
    *(
        (
            "question_answer",
            {"question": "a", "answer": "b", "context": context},
            f'field "context" is {told}, not text. Make it a text, or rename the column if the model',
        )
        for context, told in ((["c"], "a list"), ({"c": "d"}, "an object"))
    ),
    ("prompt_completion", {"prompt": None, "completion": "b"}, 'field "prompt" is null, not text.'),
    ("dolly", {"instruction": "a", "response": "b", "input": "c", "context": "d"}, 'fields "input" and "context" both'),
    (
        "prompt_completion",
        {"prompt": "a", "completion": "b", "context": "c"},
        'field "context" is not read in rows with "prompt" and "completion". Put it into the prompt, or rename the',
    ),
    ("messages", {"messages": [U, A], "input": "c"}, 'field "input" is not read in rows with "messages". Put it into'),
    ("sharegpt", {"conversations": [], "history": [["a", "b"]]}, 'field "history" is not read in rows with "conv'),
]


@pytest.mark.parametrize(("name", "row", "said"), BAD)
def test_an_unusable_row_is_refused_with_its_place_and_reason(name: str, row: object, said: str) -> None:
    with pytest.raises(BadRow) as caught:
        to_conversation(raw(row), FormatChoice(name, "", {}))
    assert str(caught.value).startswith(f"d.json:12 (row 3): {said}")
    assert caught.value.reason
    assert not any(digit in caught.value.reason for digit in "23")  # equal faults of two rows are counted together


def test_what_was_wrong_with_the_file_is_the_rows_reason() -> None:
    with pytest.raises(BadRow, match=r"d.json:12 \(row 3\): NaN is not a JSON value"):
        to_conversation(
            RawRow(ALPACA, Place("d.json", 3, 12), "NaN is not a JSON value"), FormatChoice("alpaca", "", {})
        )
