"""responses.json -> the rows of a page: packed so that ten thousand fit into it, and opened by its script."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any

from heedful.data.formats import choose, to_conversation
from heedful.data.readers import RawRow
from heedful.data.turns import BadRow, in_words
from heedful.errors import DataError
from heedful.evaluate.metrics import rouge_l
from heedful.evaluate.rows import response_key
from heedful.records import Place

MODELS = ("base", "base_own_template", "tuned")
Row = Mapping[str, Any]


def answered(responses: Sequence[Row], columns: Mapping[str, str], names: Mapping[str, str]) -> dict[str, Any]:
    """Give the answers of one run, by those of its models that answered; `columns` are the data's own names."""
    models = [model for model in MODELS if response_key(model) in responses[0]]
    answers = [[row[response_key(model)] for model in models] for row in responses]
    finish = [[row.get(f"{response_key(model)}_finish", "") for model in models] for row in responses]
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


def questions(rows: Sequence[Row], columns: Mapping[str, str]) -> list[tuple[str, str]]:
    """Give each row's question and reference, whatever its format; a row that cannot be read shows as JSON."""
    raw = [RawRow(dict(row), Place(str(row.get("place", "")), k + 1)) for k, row in enumerate(rows)]
    present = {field: column for field, column in columns.items() if any(column in row for row in rows[:1])}
    try:
        choice = choose(raw, "auto", {field: column for field, column in present.items() if field != column})
        conversations = [to_conversation(row, choice).messages for row in raw]
        return [(in_words(before), answer.content) for *before, answer in conversations]
    except (DataError, BadRow):
        return [(json.dumps(dict(row), ensure_ascii=False), str(row.get("output", ""))) for row in rows]
