"""A run's base and its tuned model on the same rows: their answers, their scores, and what is written of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from heedful.config import Config, EncodeConfig
from heedful.encode.account import left_out_in_words
from heedful.encode.scored import Scorable, sift
from heedful.encode.tokenise import Encoder, build_encoder
from heedful.engines import base_of, engine_of, find_base, open_tuned
from heedful.errors import DataError, ModelError
from heedful.evaluate.forgetting import probe, probe_rows
from heedful.evaluate.held_back import describe_rows
from heedful.evaluate.rows import RowScores, write_rows
from heedful.evaluate.score import Answers, answer, responses, score_rows
from heedful.evaluate.summary import evaluation, forgetting
from heedful.generate.engine import Engine
from heedful.model import pretrained
from heedful.model.pretrained import Loaded
from heedful.records import Conversation
from heedful.reporter import Reporter
from heedful.run import EVALUATIONS, Results, Run
from heedful.system.atomic import write_json


def score_both(
    run: Run, config: Config, rows: Sequence[Conversation], on: str | None, reporter: Reporter
) -> dict[str, Any]:
    """Evaluate base and tuned on these rows: all those of the data named `on`, or the run's test rows where it is None.

    Writes evaluation.json, responses.json and the scores by row. Raises DataError if none of the rows can be scored.
    """

    def answered(who: str, engine: Engine, scorable: Scorable) -> Answers:
        with reporter.count(f"Answering the rows with {who}", len(scorable.rows)) as on_done:
            answers = answer(engine, scorable, on_done)
        return replace(answers, probes=probe(engine, scorable.encoder))

    find_base(run)  # before the tuned model answers all rows
    tuned, trained = open_tuned(run.path, config)
    scorable = _scorable(trained, rows, reporter)
    answers = {"tuned": answered("the tuned model", tuned, scorable)}
    del tuned  # before the base model takes as much memory again
    loaded = base_of(run)
    base = {"base": answered("the base model", engine_of(loaded.model, trained, "base", config), scorable)}
    own, why_not = _in_own_template(loaded, scorable)
    if own is not None:
        engine = engine_of(loaded.model, own.encoder, "base", config)
        base["base_own_template"] = answered("the base model in its own template", engine, own)
    elif why_not:
        reporter.say(f"The base model is not asked in its own template: {why_not}")
    answers = base | answers
    rows = scorable.rows
    scored, probed = score_rows(answers, rows), probe_rows({name: found.probes for name, found in answers.items()})
    scores = evaluation(scored, config.evaluate.decides) | {"rows_cut": scorable.cut, "left_out": scorable.left_out}
    scores |= {"forgetting": forgetting(probed)} if probed else {}
    scores |= {"not_asked": {"base_own_template": why_not}} if why_not else {}
    scores["of"] = describe_rows(run, config, on)
    _remember_scored(run)
    _write(run.results(on), scores, responses(answers, rows), scored, probed)
    return scores


def _scorable(encoder: Encoder, rows: Sequence[Conversation], reporter: Reporter) -> Scorable:
    """Find the rows that can be scored, and say what becomes of the others."""
    scorable = sift(encoder, rows)
    if not scorable.rows:
        raise DataError(
            f"None of the rows can be scored: {left_out_in_words(scorable.left_out)}.",
            "Name others with --data.",
        )
    if scorable.left_out:
        reporter.say(f"Not scored, of {len(rows):,} rows: {left_out_in_words(scorable.left_out)}.")
    if scorable.cut:
        limit = f"the model's {encoder.max_tokens:,} tokens"
        reporter.say(f"Cut to fit {limit}: {scorable.cut:,} of the rows.")
    return scorable


def _in_own_template(base: Loaded, scorable: Scorable) -> tuple[Scorable | None, str]:
    """Put the same rows in the base model's own template, where that is another; or say why it cannot take them."""
    try:
        own = build_encoder(EncodeConfig(), base.tokenizer, pretrained.max_positions(base.model.config))
    except ModelError as error:
        return None, error.problem
    if own.template.name != "own" or own.template.source == scorable.encoder.template.source:
        return None, ""
    told = sift(own, scorable.rows)
    if told.left_out:
        return None, f"{left_out_in_words(told.left_out)}, of {len(scorable.rows):,} rows."
    return told, ""


def _write(
    results: Results,
    scores: dict[str, Any],
    told: list[dict[str, Any]],
    scored: Sequence[RowScores],
    probed: Sequence[RowScores],
) -> None:
    """Write the files of an evaluation. Its scores go first and come last: where they are, the rest is theirs."""
    results.path.mkdir(parents=True, exist_ok=True)
    results.evaluation_file.unlink(missing_ok=True)
    write_json(results.responses_file, told)
    write_rows(results.scores_file, scored)
    write_rows(results.probes_file, probed)
    write_json(results.evaluation_file, scores)


def remove_scores(run: Run) -> None:
    """Remove what was written of a model that another replaces; that it was scored is remembered.

    A judge's replies stay: they are found by what was asked.
    """
    _remember_scored(run)
    run.report_file.unlink(missing_ok=True)
    for results in (run, *map(Results, run.path.glob(f"{EVALUATIONS}/*/"))):  # folders alone
        pages = results.path.glob("compare-*.html")
        files = (results.evaluation_file, results.responses_file, results.scores_file, results.probes_file)
        for file in (*files, *pages):
            file.unlink(missing_ok=True)


def _remember_scored(run: Run) -> None:
    """Note that a score of the run is known, before the file that tells it goes."""
    if run.is_scored:
        write_json(run.provenance_file, run.provenance() | {"scored": True})
