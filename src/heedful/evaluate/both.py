"""A run's base and its tuned model on the same rows: their answers, their scores, and what is written of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from heedful import model as models
from heedful.config import Config
from heedful.encode.receipt import open_encoder
from heedful.encode.tokenise import Encoder
from heedful.engines import base_of, engine_of, find_base, open_tuned
from heedful.evaluate.forgetting import probe, probe_rows
from heedful.evaluate.held_back import describe_rows
from heedful.evaluate.rows import RowScores, write_rows
from heedful.evaluate.score import Answers, answer, responses, score_rows
from heedful.evaluate.summary import evaluation, forgetting
from heedful.generate.engine import Engine
from heedful.records import Conversation
from heedful.reporter import Reporter
from heedful.run import EVALUATIONS, Results, Run
from heedful.whole import write_json


def score_both(
    run: Run, config: Config, rows: Sequence[Conversation], on: str | None, reporter: Reporter
) -> dict[str, Any]:
    """Evaluate base and tuned on these rows: all of the data `on` which they are, or else the run's test rows.

    Writes evaluation.json, responses.json and the scores by row.
    """

    def answered(who: str, engine: Engine, encoder: Encoder) -> Answers:
        with reporter.count(f"Answering {len(rows)} test rows with {who}", len(rows)) as on_done:
            answers = answer(engine, encoder, rows, on_done)
        return replace(answers, probes=probe(engine, encoder))

    find_base(run)  # before the tuned model answers all rows
    tuned, trained = open_tuned(run.path, config)
    answers = {"tuned": answered("the tuned model", tuned, trained)}
    if cut := answers["tuned"].cut:
        reporter.say(f"{cut} of them are longer than the model's {trained.max_tokens} tokens, and were cut to fit.")
    del tuned  # before the base model takes as much memory again
    loaded = base_of(run)
    positions = models.max_positions(loaded.model.config)
    own = open_encoder(None, loaded.tokenizer, positions)
    base = {"base": answered("the base model", engine_of(loaded.model, trained, "base", config), trained)}
    if own.template.name == "own" and own.template.source != trained.template.source:
        engine = engine_of(loaded.model, own, "base", config)
        base["base_own_template"] = answered("the base model in its own template", engine, own)
    answers = base | answers
    scored, probed = score_rows(answers, rows), probe_rows({name: found.probes for name, found in answers.items()})
    scores = evaluation(scored, config.evaluate.decides) | {"rows_cut": cut}
    scores |= {"forgetting": forgetting(probed)} if probed else {}
    scores["of"] = describe_rows(run, config, on)
    _remember_scored(run)
    _write(run.results(on), scores, responses(answers, rows), scored, probed)
    return scores


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
    """Remove what tells of a model that another replaces; that it was scored is remembered.

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
