"""The format of rows is found by their fields, or named; what is no format leads to the nearest."""

from typing import Any

import pytest
from tests.data.raw_rows import ALPACA, ASK, SAY, A, U, chat, raw

from heedful.commands.arguments import columns_of
from heedful.data.formats import choose, to_conversation
from heedful.data.turns import BadRow
from heedful.errors import DataError


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


def test_a_field_is_read_of_its_column_alone() -> None:
    choice = choose([raw({"instruction": "Hi?", "reply": "Hello."})], "auto", {"output": "reply"})
    with pytest.raises(BadRow, match='field "output" is missing'):
        to_conversation(raw({"instruction": "Hi?", "output": "not this"}), choice)


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
            {"Question": "Hi?", "Context": "At noon.", "Answer": "Hello.", "id": "1"},
            'field "question" is missing (the row has "Question"; did you mean "question"?). Rename the columns, or '
            "name them with --columns question=Question,answer=Answer,context=Context.",
        ),
        (
            {"INSTRUCTION": "Hi?", "The Output": "Hello."},
            'field "instruction" is missing (the row has "INSTRUCTION"; did you mean "instruction"?). Rename the '
            "columns, or name them with --columns 'instruction=INSTRUCTION,output=The Output'.",
        ),
        (
            {"question": "Hi?", " answer": "Hello."},  # --columns strips names
            'field "answer" is missing (the row has " answer"; did you mean "answer"?). Rename the column.',
        ),
        (  # what no system prompt and no history can be is not proposed as one
            {"Instruction": "Hi?", "Output": "Hello.", "System": 5, "History": "Hi? Hello.", "Input": ""},
            'field "instruction" is missing (the row has "Instruction"; did you mean "instruction"?). Rename the '
            "columns, or name them with --columns instruction=Instruction,output=Output,input=Input.",
        ),
        (
            {"Instruction": "Hi?", "Output": "Hello.", "System": None, "History": [["Hi?", "Hello."]]},
            'field "instruction" is missing (the row has "Instruction"; did you mean "instruction"?). Rename the '
            "columns, or name them with --columns "
            "instruction=Instruction,output=Output,system=System,history=History.",
        ),
        (
            {"question": "Hi?", "answer, short": "Hello."},  # --columns parts names there
            'field "answer" is missing (the row has "answer, short"; did you mean "answer"?). Rename the column.',
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


def test_the_columns_that_are_proposed_are_read_at_once() -> None:
    """Beside those that were named before."""
    row, columns = (
        {"Prompt": "Hi?", "Reply": "Hello.", "Context": "At noon.", "System": "Be kind."},
        {"output": "Reply"},
    )
    with pytest.raises(BadRow) as caught:
        to_conversation(raw(row), choose([raw(row)], "alpaca", columns))
    proposed = caught.value.fix.removesuffix(".").split("--columns ")[1]
    choice = choose([raw(row)], "auto", columns_of([proposed]) or {})
    assert choice.columns.keys() == {"instruction", "output", "context", "system"}
    assert [message.content for message in to_conversation(raw(row), choice).messages] == ["Be kind.", "Hi?", "Hello."]


@pytest.mark.parametrize(
    ("names", "proposed"),
    [
        ("Question Answer Response", "question=Question,answer=Answer"),
        ("Question Answer Completion", "question=Question,answer=Answer"),
        ("Prompt Instruction Output", "instruction=Instruction,output=Output"),
        ("Instruction Output Answer", "instruction=Instruction,output=Output"),
        ("Category Instruction Question Response", "instruction=Instruction,response=Response"),
    ],
)
def test_a_column_of_the_formats_own_name_is_proposed_before_another(names: str, proposed: str) -> None:
    row = {name: f"A text of {name}." for name in names.split()}
    with pytest.raises(BadRow, match=f"--columns {proposed}[.]"):
        to_conversation(raw(row), choose([raw(row)], "auto", {}))


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
    assert choose([raw({"prompt": "a", "response": "b"})], "auto", {}).why == 'each row has "prompt" and "response"'
    assert choose([raw(ALPACA)], "alpaca", {}).why == "it is set by data.format"
