"""A run's stored answers -> what a judge says of them, written into its evaluation.json and scores.jsonl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from heedful.address import redacted
from heedful.data.turns import turns_in_words
from heedful.errors import RunError
from heedful.evaluate.endpoint import Endpoint
from heedful.evaluate.judge import Judged, Replies, Verdicts, choose, grade
from heedful.evaluate.rows import answered, evaluating, read_rows, response_key, write_rows
from heedful.evaluate.summary import evaluation, with_verdicts
from heedful.records import Conversation
from heedful.reporter import Reporter
from heedful.run import Results
from heedful.system.atomic import read_json, write_json

JudgeBy = Literal["grade", "pairs", "both"]


def judge_run(
    results: Results, rows: Sequence[Conversation], judge: Endpoint, by: JudgeBy, reporter: Reporter
) -> dict[str, Any]:
    """Let a judge score the stored answers to these rows; give evaluation.json with its part.

    Raises RunError if the judge is down or scores nothing: then the scores stay as they were. What it said is kept, and
    the same call goes on from there.
    """
    rows, scored = answered(results, rows), read_rows(results.scores_file)
    verdicts = _ask(_judged(results, rows, list(scored[0].cells)), by, Replies(judge, results.judge_file), reporter)
    scored = with_verdicts(scored, verdicts)
    before = read_json(results.evaluation_file, _again(results))
    result: dict[str, Any] = before | {"judge": {"rows": len(rows), "models": {}, "paired": {}}}
    result |= evaluation(scored, before["decides"])
    result["judge"] |= {"url": redacted(judge.url), "model": judge.model, **_told(verdicts)}
    if result["judge"]["unscored"] and not result["judge"]["models"]:
        raise _useless(result["judge"])
    write_rows(results.scores_file, scored)
    write_json(results.evaluation_file, result)
    return result


def _judged(results: Results, rows: Sequence[Conversation], models: Sequence[str]) -> list[Judged]:
    """Return the texts that the judge is to see: each row's, with the models' stored answers."""
    stored = zip(rows, read_json(results.responses_file, _again(results)), strict=True)
    return [
        Judged(
            str(row.place),
            turns_in_words(row.prompt),
            row.answer,
            {model: told[response_key(model)] for model in models},
        )
        for row, told in stored
    ]


def _again(results: Results) -> str:
    return f"Run {evaluating(results.path)} again."


def _ask(rows: Sequence[Judged], by: JudgeBy, replies: Replies, reporter: Reporter) -> dict[str, Verdicts]:
    """Ask for a grade of every answer, for a choice between base and tuned, or for both."""
    models = rows[0].answers.keys()
    pairs = by != "grade" and {"base", "tuned"} <= models
    apart = sum(row.answers["base"] != row.answers["tuned"] for row in rows) if pairs else 0
    questions = len(rows) * len(models) * (by != "pairs") + 2 * apart
    verdicts: dict[str, Verdicts] = {}
    try:
        with reporter.count(f"Asking {replies.endpoint.model} about the answers", questions) as replies.on_done:
            if by != "pairs":
                verdicts["judge_score"] = grade(rows, replies)
            if pairs:
                verdicts["judge_wins"] = choose(rows, "base", "tuned", replies)
    except KeyboardInterrupt:
        if kept := replies.kept():
            reporter.say(kept)
        raise
    return verdicts


def _useless(told: dict[str, Any]) -> RunError:
    """Return the error to raise of a judge that scores nothing, with the first thing it said."""
    first = told["unscored_examples"][0]
    said = (first.get("reason") or repr(first["reply"])).rstrip(".")
    return RunError(
        f"The judge at {told['url']} scores nothing: {told['unscored']} of {told['asked']} replies could not be scored "
        f"(the first: {said}).",
        "Name another with --judge-model.",
    )


def _told(verdicts: dict[str, Verdicts]) -> dict[str, Any]:
    """Add up what the judging took, and what could not be scored."""
    every = verdicts.values()
    unscored = [entry for said in every for entry in said.unscored]
    told: dict[str, Any] = {
        "asked": sum(said.asked for said in every),
        "unscored": len(unscored),
        "unscored_examples": unscored[:5],
        "tokens": {
            "prompt": sum(said.prompt_tokens for said in every),
            "completion": sum(said.completion_tokens for said in every),
        },
    }
    wins = verdicts.get("judge_wins")
    counts = ("pairs_read", "decided_by_order", "equal_answers")
    return told | ({name: getattr(wins, name) for name in counts} if wins else {})
