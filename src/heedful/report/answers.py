"""responses.json -> the rows of a page: packed so that ten thousand fit into it, and opened by its script."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any

from heedful.data.formats import choose, to_conversation
from heedful.data.readers import RawRow
from heedful.data.turns import BadRow
from heedful.errors import DataError
from heedful.evaluate.metrics import rouge_l
from heedful.records import Conversation, Place

MODELS = ("base", "base_own_template", "tuned")
Row = Mapping[str, Any]


def answered(responses: Sequence[Row], columns: Mapping[str, str], names: Mapping[str, str]) -> dict[str, Any]:
    """Give the answers of one run, by those of its models that answered; `columns` are the data's own names."""
    models = [model for model in MODELS if key_of(model) in responses[0]]
    answers = [[row[key_of(model)] for model in models] for row in responses]
    finish = [[row.get(f"{key_of(model)}_finish", "") for model in models] for row in responses]
    return packed(responses, columns, answers, finish, [names.get(model, model) for model in models])


def packed(
    responses: Sequence[Row],
    columns: Mapping[str, str],
    answers: Sequence[Sequence[str]],
    finish: Sequence[Sequence[str]],
    names: Sequence[str],
) -> dict[str, Any]:
    """Pack questions, references and answers as base64 of gzip of JSON: no row's text can end the page's script."""
    rows = []
    for (question, reference), row, texts, ends in zip(
        questions(responses, columns), responses, answers, finish, strict=True
    ):
        scores = [round(rouge_l(text, reference), 4) for text in texts] if reference else None
        rows.append(
            {"place": row.get("place", ""), "question": question, "reference": reference, "answers": list(texts),
             "finish": list(ends), "scores": scores}
        )  # fmt: skip
    content = json.dumps({"columns": list(names), "rows": rows}, ensure_ascii=False).encode()
    together = base64.b64encode(gzip.compress(content, mtime=0)).decode()
    return {"columns": list(names), "rows": len(rows), "scored": len(names) > 1, "packed": together}


def key_of(model: str) -> str:
    """Name the field of responses.json that holds a model's answer."""
    return "model_response" if model == "tuned" else f"{model}_response"


def questions(rows: Sequence[Row], columns: Mapping[str, str]) -> list[tuple[str, str]]:
    """Give each row's question and reference, whatever its format; a row that cannot be read shows as JSON."""
    raw = [RawRow(dict(row), Place(str(row.get("place", "")), k + 1)) for k, row in enumerate(rows)]
    present = {field: column for field, column in columns.items() if any(column in row for row in rows[:1])}
    try:
        choice = choose(raw, "auto", {field: column for field, column in present.items() if field != column})
        return [asked(to_conversation(row, choice)) for row in raw]
    except (DataError, BadRow):
        return [(json.dumps(dict(row), ensure_ascii=False), str(row.get("output", ""))) for row in rows]


def asked(conversation: Conversation) -> tuple[str, str]:
    """Give what stands before the last answer, as a person reads it, and that answer."""
    *before, last = conversation.messages
    alone = len(before) == 1
    turns = []
    for message in before:
        text = message.content + (f"\n\n{message.input}" if message.input else "")
        turns.append(text if alone else f"{message.role}: {text}")
    return "\n\n".join(turns), last.content
