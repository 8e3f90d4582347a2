"""Each known kind of row becomes its messages."""

from typing import Any

import pytest
from tests.data.raw_rows import ASK, GPT, HUMAN, LAST, NEXT, SAY, SYSTEM, A, S, U, raw

from heedful.data.formats import choose, to_conversation
from heedful.records import Message

GOOD: list[tuple[str, dict[str, Any], list[Message]]] = [
    ("alpaca", {"instruction": "Hi?", "output": "Hello."}, [ASK, SAY]),
    ("alpaca", {"instruction": "Hi?", "input": None, "output": "Hello.", "id": 7}, [ASK, SAY]),
    (
        "alpaca",
        {"instruction": "Add", "input": "1 2", "output": "3"},
        [Message("user", "Add", input="1 2"), Message("assistant", "3")],
    ),
    (
        "alpaca",
        {"system": "Be brief.", "history": [["Hi?", "Hello."]], "instruction": "And?", "input": " ", "output": "Bye."},
        [SYSTEM, ASK, SAY, NEXT, LAST],
    ),
    ("dolly", {"instruction": "Hi?", "context": "", "response": "Hello.", "category": "qa"}, [ASK, SAY]),
    ("dolly", {"instruction": "Hi?", "context": "c", "response": "Hello."}, [Message("user", "Hi?", input="c"), SAY]),
    ("dolly", {"instruction": "Hi?", "input": "c", "response": "Hello."}, [Message("user", "Hi?", input="c"), SAY]),
    (
        "dolly",
        {
            "system": "Be brief.",
            "history": [["Hi?", "Hello."]],
            "instruction": "And?",
            "context": " ",
            "response": "Bye.",
        },
        [SYSTEM, ASK, SAY, NEXT, LAST],
    ),
    ("alpaca", {"instruction": "Hi?", "context": "c", "output": "Hello."}, [Message("user", "Hi?", input="c"), SAY]),
    (
        "question_answer",
        {"question": "Hi?", "context": "c", "answer": "Hello."},
        [Message("user", "Hi?", input="c"), SAY],
    ),
    ("messages", {"system": "Be brief.", "messages": [U, A], "input": "", "history": []}, [SYSTEM, ASK, SAY]),
    *(
        ("messages", {"messages": [U, A], "input": empty, "context": empty}, [ASK, SAY])
        for empty in ({}, 0, False, " ")
    ),
    ("messages", {"system": "Be brief.", "messages": [S, U, A]}, [SYSTEM, ASK, SAY]),
    ("prompt_completion", {"system": "Be brief.", "prompt": [S, U], "completion": "Hello."}, [SYSTEM, ASK, SAY]),
    ("question_answer", {"question": "Hi?", "answer": "Hello."}, [ASK, SAY]),
    ("question_answer", {"system": "Be brief.", "question": "Hi?", "answer": "Hello."}, [SYSTEM, ASK, SAY]),
    ("prompt_completion", {"prompt": "Hi?", "completion": "Hello."}, [ASK, SAY]),
    ("prompt_completion", {"prompt": "Hi?", "response": "Hello."}, [ASK, SAY]),
    (
        "prompt_completion",
        {"prompt": [{"role": "user", "content": "Hi?"}], "completion": [{"role": "assistant", "content": "Hello."}]},
        [ASK, SAY],
    ),
    (
        "messages",
        {
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i?"}]},
                {"role": "assistant", "content": "Hello.", "weight": 0},
                {"role": "user", "content": "And?"},
                {"role": "assistant", "content": "Bye.", "weight": 1},
            ]
        },
        [SYSTEM, ASK, Message("assistant", "Hello.", False), NEXT, Message("assistant", "Bye.", True)],
    ),
    (
        "messages",
        {
            "messages": [
                {"role": "system", "content": ""},
                {"role": "user", "content": "Hi?"},
                {"role": "assistant", "content": "Hello."},
            ]
        },
        [ASK, SAY],
    ),
    (
        "messages",
        {
            "messages": [
                {"role": "user", "content": "Hi?"},
                {"role": "assistant", "content": "call()"},
                {"role": "tool", "content": "a"},
                {"role": "tool", "content": "b"},
                {"role": "assistant", "content": "Hello."},
            ]
        },
        [ASK, Message("assistant", "call()"), Message("tool", "a"), Message("tool", "b"), SAY],
    ),
    (
        "sharegpt",
        {
            "system": "Be brief.",
            "conversations": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Hello."}],
        },
        [SYSTEM, ASK, SAY],
    ),
    *(
        ("sharegpt", {"conversations": [{"from": asks, "value": "Hi?"}, {"from": says, "value": "Hello."}]}, [ASK, SAY])
        for asks in ("human", "user")
        for says in ("gpt", "assistant", "chatgpt", "bing", "bard", "model")
    ),
    (
        "sharegpt",
        {
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": "Hi?"},
                {"from": "function_call", "value": "call()"},
                {"from": "observation", "value": "a"},
                {"from": "gpt", "value": "Hello."},
            ]
        },
        [SYSTEM, ASK, Message("assistant", "call()"), Message("tool", "a"), SAY],
    ),
    ("sharegpt", {"conversations": [S, U, A]}, [SYSTEM, ASK, SAY]),
    ("messages", {"messages": [HUMAN, GPT]}, [ASK, SAY]),
    ("messages", {"messages": [HUMAN, A]}, [ASK, SAY]),
    ("prompt_completion", {"prompt": [HUMAN], "completion": [GPT]}, [ASK, SAY]),
    (
        "sharegpt",
        {
            "conversations": [
                {"from": "system", "value": "Be brief.", "weight": None},
                HUMAN | {"weight": 0.0},
                GPT | {"weight": 1.0},
            ]
        },
        [SYSTEM, ASK, Message("assistant", "Hello.", True)],
    ),
    (
        "sharegpt",
        {
            "conversations": [
                HUMAN | {"train": False},
                GPT | {"train": False, "weight": None},
                {"role": "user", "content": "And?"},
                {"from": "gpt", "value": "Bye.", "train": True, "weight": 1},
            ]
        },
        [ASK, Message("assistant", "Hello.", False), NEXT, Message("assistant", "Bye.", True)],
    ),
    *(
        ("alpaca", {"instruction": "Hi?", "output": "Hello.", "history": blank}, [ASK, SAY])
        for blank in ("", " ", None)
    ),
    *(
        (
            "alpaca",
            {"instruction": "Hi?", "output": "Hello.", "messages": none, "question": none, "answer": none},
            [ASK, SAY],
        )
        for none in (None, "")
    ),
]


@pytest.mark.parametrize(("name", "row", "messages"), GOOD)
def test_a_row_is_recognised_and_read(name: str, row: dict[str, Any], messages: list[Message]) -> None:
    choice = choose([raw(row)], "auto", {})
    conversation = to_conversation(raw(row), choice)
    assert choice.name == name
    assert list(conversation.messages) == messages
    assert (conversation.id, conversation.row, str(conversation.place)) == ("d.json:3", row, "d.json:12 (row 3)")
