"""responses.json -> the rows of a page: packed so that ten thousand fit into it, and opened by its script."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any

from heedful.data.formats import choose, to_conversation
from heedful.data.readers import RawRow
from heedful.data.turns import turns_in_words
from heedful.errors import DataError
from heedful.evaluate.rows import response_key, unique
from heedful.records import Place
from heedful.report.facts import Facts

MODELS = ("base", "base_own_template", "tuned")
Row = Mapping[str, Any]
Answer = tuple[Facts, Row, str]  # of whose run, the row that holds it, and the model that gave it


def answered(facts: Facts, names: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the answers of one run, by those of its models that answered."""
    if not (responses := facts.responses):
        return None
    models = [model for model in MODELS if response_key(model) in responses[0]]
    answers = [[(facts, row, model) for model in models] for row in responses]
    return packed(answers, [names.get(model, model) for model in models]) if models else None


def side_by_side(a: Facts, b: Facts, names: Sequence[str]) -> dict[str, Any] | None:
    """Return what two tuned models, called `names`, answered to the same rows."""
    if not a.responses or not b.responses:
        return None
    of_a, of_b = _by_key(a), _by_key(b)
    pairs = [[(a, row, "tuned"), (b, of_b[said], "tuned")] for said, row in of_a.items() if said in of_b]
    return packed(pairs, names) if pairs else None


def _by_key(facts: Facts) -> dict[str, Row]:
    """Return the answered rows by what is said in them: a file may have been edited or moved between two runs."""
    rows = [row for row in facts.responses if row["place"] in facts.scores]
    return dict(zip(unique(facts.scores[row["place"]].key for row in rows), rows, strict=True))


def _rouge(facts: Facts, row: Row, model: str) -> float | None:
    """Read what an answer scored; None where that was not kept."""
    scored = facts.scores.get(str(row.get("place", "")))
    cell = scored.cells.get(model) if scored else None
    return round(cell.values["rouge_l"], 4) if cell and "rouge_l" in cell.values else None


def packed(answers: Sequence[Sequence[Answer]], names: Sequence[str]) -> dict[str, Any]:
    """Pack questions, references and answers as base64 of gzip of JSON: no row's text can end the page's script.

    Each of `answers` holds those to one question, which is read from the row of the first.
    """
    responses, facts = [row for (_, row, _), *_ in answers], answers[0][0][0]
    rows = []
    for (question, reference), row, given in zip(questions(facts, responses), responses, answers, strict=True):
        keys = [(held, response_key(model)) for _, held, model in given]
        scores = [_rouge(*answer) for answer in given]
        rows.append(
            {"place": row.get("place", ""), "question": question, "reference": reference,
             "answers": [held[key] for held, key in keys],
             "finish": [held.get(f"{key}_finish", "") for held, key in keys],
             "scores": None if None in scores else scores}
        )  # fmt: skip
    content = json.dumps({"columns": list(names), "rows": rows}, ensure_ascii=False).encode()
    together = base64.b64encode(gzip.compress(content, mtime=0)).decode()
    return {"columns": list(names), "rows": len(rows), "scored": len(names) > 1, "packed": together}


def questions(facts: Facts, rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Give each row's question and reference, read as the run read them; if one cannot be, all show as JSON."""
    raw = [RawRow(dict(row), Place(str(row.get("place", "")), k + 1)) for k, row in enumerate(rows)]
    named = {field: column for field, column in facts.columns.items() if field != column}
    try:
        choice = choose(raw, facts.format, {f: c for f, c in named.items() if any(c in row for row in rows)})
        conversations = [to_conversation(row, choice).messages for row in raw]
        return [(turns_in_words(before), answer.content) for *before, answer in conversations]
    except DataError:
        return [(json.dumps(dict(row), ensure_ascii=False), str(row.get("output", ""))) for row in rows]
