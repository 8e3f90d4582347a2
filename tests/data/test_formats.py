"""Each known kind of row becomes its messages; each unusable one is told apart from the others in a sentence."""

from typing import Any

import pytest

from heedful.data.formats import FormatChoice, choose, to_conversation
from heedful.data.readers import RawRow
from heedful.data.turns import BadRow
from heedful.errors import DataError
from heedful.records import Message, Place

SYSTEM, ASK, SAY = Message("system", "Be brief."), Message("user", "Hi?"), Message("assistant", "Hello.")
NEXT, LAST = Message("user", "And?"), Message("assistant", "Bye.")
S, U = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi?"}
A = {"role": "assistant", "content": "Hello."}
HUMAN, GPT = {"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Hello."}

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
    *(("messages", {"messages": [U, A], "input": empty, "context": empty}, [ASK, SAY]) for empty in ({}, 0, False)),
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


def raw(value: object, row: int = 3) -> RawRow:
    return RawRow(value, Place("d.json", row, 12))


def chat(*turns: tuple[str, object]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


@pytest.mark.parametrize(("name", "row", "messages"), GOOD)
def test_a_row_is_recognised_and_read(name: str, row: dict[str, Any], messages: list[Message]) -> None:
    choice = choose([raw(row)], "auto", {})
    conversation = to_conversation(raw(row), choice)
    assert choice.name == name
    assert list(conversation.messages) == messages
    assert (conversation.id, conversation.row, str(conversation.place)) == ("d.json:3", row, "d.json:12 (row 3)")


ALPACA = {"instruction": "a", "output": "b"}
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


@pytest.mark.parametrize(
    ("row", "columns", "name"),
    [
        ({"question": "Hi?", "reply": "Hello."}, {"instruction": "question", "output": "reply"}, "alpaca"),
        ({"question": "Hi?", "answer": "Hello."}, {"instruction": "question", "output": "answer"}, "alpaca"),
        ({"q": "Hi?", "answer": "Hello."}, {"question": "q"}, "question_answer"),
        (
            {"dialog": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Hello."}]},
            {"conversations": "dialog"},
            "sharegpt",
        ),
    ],
)
def test_columns_give_fields_other_names(row: dict[str, Any], columns: dict[str, str], name: str) -> None:
    choice = choose([raw(row)], "auto", columns)
    assert choice.name == name
    assert list(to_conversation(raw(row), choice).messages) == [ASK, SAY]


def test_a_column_is_not_read_under_its_own_name_too() -> None:
    row = {"instruction": "not this", "input": "Hi?", "output": "Hello."}
    choice = choose([raw(row)], "auto", {"instruction": "input"})
    assert list(to_conversation(raw(row), choice).messages) == [ASK, SAY]


@pytest.mark.parametrize(
    ("rows", "wanted", "columns", "said"),
    [
        (
            [ALPACA],
            "auto",
            {"output": "replies"},
            'data.columns takes output from "replies", but no row has that column. The',
        ),
        (
            [{"instruction": "a", "reply": "b"}],
            "auto",
            {"output": "replys"},
            "data.columns takes output from \"replys\", but no row has that column. Did you mean 'reply'?",
        ),
        (
            [ALPACA],
            "auto",
            {"instrution": "output"},
            "data.columns names \"instrution\", which is not a field of the format. Did you mean 'instruction'?",
        ),
        ([ALPACA], "dolly", {"output": "output"}, 'data.columns names "output", which is not a field of the format.'),
        (
            [{"question": "a", "answer": "b", "why": "c"}],
            "auto",
            {"output": "why"},
            'data.columns names "output", which is not a field of the format. The fields are "answer",',
        ),
        (
            [ALPACA, chat(("user", "a"))],
            "auto",
            {},
            "The rows are of different formats: alpaca at d.json:12 (row 1) and messages at d.json:12 (row 2).",
        ),
        ([{"a": 1}], "auto", {}, 'The rows are of no known format: they have "a". Name the columns, as in --columns'),
    ],
)
def test_what_cannot_be_chosen_is_a_data_error(
    rows: list[dict[str, Any]], wanted: str, columns: dict[str, str], said: str
) -> None:
    with pytest.raises(DataError) as caught:
        choose([raw(row, number) for number, row in enumerate(rows, 1)], wanted, columns)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"instruction": "a", "outputs": "b"}, "alpaca"),
        ({"instructions": "a", "output": "b"}, "alpaca"),
        ({"question": "a", "anwser": "b"}, "question_answer"),
        ({"message": []}, "messages"),
        ({"conversation": []}, "sharegpt"),
    ],
)
def test_a_misspelt_column_leads_to_the_nearest_format(row: dict[str, Any], name: str) -> None:
    choice = choose([raw(row)], "auto", {})
    assert choice.name == name
    with pytest.raises(BadRow, match=r'is missing \(the row has "\w+"; did you mean'):
        to_conversation(raw(row), choice)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"id": "1", "system_prompt": "Be kind.", "question": "Hi?", "response": "Hello."},
            'field "prompt" is missing (the row has "question"; did you mean "prompt"?). '
            "Rename the column, or name it with --columns prompt=question.",
        ),
        ({"instruction": "Hi?", "answer": "Hello."}, 'field "output" is missing (the row has "answer"; did you mean'),
        (
            {"context": "c", "question": "Hi?", "answers": {"text": ["Hello."]}},
            'field "answer" is missing (the row has "context", "question" and "answers"). Rename the column, or',
        ),
        (
            {"output": "Hello.", "meta_instruction": "Be kind."},
            'field "instruction" is missing (the row has "output" and',
        ),
    ],
)
def test_the_column_that_is_proposed_is_one_to_learn_from(row: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRow) as caught:
        to_conversation(raw(row), choose([raw(row)], "auto", {}))
    assert str(caught.value).startswith(f"d.json:12 (row 3): {said}")


@pytest.mark.parametrize(
    "row",
    [
        {"message_id": "1", "parent_id": None, "text": "Hi?", "role": "prompter"},
        {"conversation_id": 1, "meta_instruction": "Be kind.", "chat": {"turn_1": {}}},
    ],
)
def test_an_id_or_a_system_prompt_makes_no_format(row: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="The rows are of no known format: they have"):
        choose([raw(row)], "auto", {})


@pytest.mark.parametrize("strays", [1, 5, 6])
def test_where_bad_rows_are_skipped_a_few_of_other_formats_are_too(strays: int) -> None:
    rows = [raw({"messages": [U, A]} if k % 16 == 0 and k // 16 < strays else ALPACA, k + 1) for k in range(100)]
    several = r"of different formats: messages at .* and alpaca at .* or name it with --format and"
    with pytest.raises(DataError, match=several):
        choose(rows, "auto", {})
    if strays <= 5:
        choice = choose(rows, "auto", {}, on_bad_row="skip")
        assert (choice.name, choice.why) == ("alpaca", 'most rows have "instruction" and "output"')
    else:
        with pytest.raises(DataError, match=several):
            choose(rows, "auto", {}, on_bad_row="skip")


@pytest.mark.parametrize("late", [999, 1000, 1500])
def test_a_column_that_only_late_rows_have_may_be_named(late: int) -> None:
    rows = [raw({"instruction": "a", "output": "b"} | ({"about": "c"} if k == late else {}), k) for k in range(1501)]
    assert choose(iter(rows), "auto", {"input": "about"}).name == "alpaca"
    with pytest.raises(DataError, match=r"no row has that column. Did you mean 'about'\?"):
        choose(iter(rows), "auto", {"input": "abuot"})


def test_the_choice_says_why() -> None:
    assert choose([raw(ALPACA)], "auto", {}).why == 'each row has "instruction" and "output"'
    assert choose([raw(ALPACA)], "alpaca", {}).why == "it is set by data.format"
