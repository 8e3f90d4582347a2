"""The rows that a run may be judged by: those it never saw, or those of a file that the user names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heedful.address import redacted
from heedful.config import Config, DataConfig
from heedful.data import load_splits
from heedful.errors import DataError, UsageError
from heedful.records import Conversation
from heedful.reporter import SILENT, Reporter
from heedful.run import MOVED, Run, advising_if_moved
from heedful.settings import Settings, by_leaf, differences, load_config, override

READ_ANEW = ("format", "columns", "on_bad_row")  # settings of how another file is read


def evaluation_rows(
    run: Run, data: str | None, asked: Settings = (), reporter: Reporter = SILENT
) -> Sequence[Conversation]:
    """Return the run's test rows, or all rows of `data`, read by the settings `asked` for now.

    Raises RunError for a run without a model, DataError where there are no rows or they have changed, UsageError for
    settings that cannot be changed.
    """
    run.check_model()
    if data is not None:
        return _all_rows(load_config(None, asked, {"data.path": data}).data, reporter)
    own = _own_data(run, asked)
    with advising_if_moved():
        splits, receipt = load_splits(own, reporter)
    if receipt.sha256 != run.provenance("data")["data"]:
        raise DataError(
            f"{redacted(own.path)} is not what {run.path} was trained on, so it does not tell which rows "
            "were held back.",
            f"Restore the file, or name rows with --data. {MOVED}",
        )
    if not len(splits.test):
        train = "" if own.test_share else ", or train with data.test_share above 0 (0.1 holds back a tenth)"
        raise DataError(f"{run.path} held no test rows back{why_none(own)}.", f"Name some with --data{train}.")
    return splits.test


def why_none(data: DataConfig) -> str:
    """Say why a split held no test rows back, where its share of them does not."""
    return (
        f": the rows are too few, or too much alike, to hold back {data.test_share:g} of them"
        if data.test_share
        else ""
    )


def evaluation_config(run: Run, settings: Settings, data: str | None) -> Config:
    """Return the run's settings with those asked for now; UsageError for one that an evaluation does not read."""
    config = run.config(settings)
    read = {f"data.{name}" for name in READ_ANEW}
    for leaf in by_leaf(settings):
        of_data = leaf.startswith("data.") and (data is None or leaf in read)  # the run's own: see `evaluation_rows`
        if not (leaf.startswith("generate.") or leaf == "evaluate.decides" or of_data):
            raise UsageError(
                f"An evaluation does not read {leaf}.",
                f"It reads generate.*, evaluate.decides, and with other rows {', '.join(sorted(read))}.",
            )
    return config


def record_decider(run: Run, decides: str) -> None:
    """Write down which score decides, if it is another than the run chose; UsageError once a score is known."""
    chosen = run.config().evaluate.decides
    if decides == chosen:
        return
    if run.is_scored:
        raise UsageError(
            f"{run.path} chose {chosen} to decide before any score was known, and that cannot be changed.",
            f"The other scores are shown beside it; to let {decides} decide, train with that setting.",
        )
    run.write_config(override(run.config(), {"evaluate.decides": decides}))


def describe_rows(run: Run, config: Config, data: str | None) -> dict[str, Any]:
    """Say of which rows an evaluation tells, and how they were answered if not by the run's settings."""
    changed = differences(run.config(), config).items()
    settings = {leaf: value for leaf, (_, value) in changed if leaf.startswith("generate.")}
    return {"data": redacted(data or config.data.path), "rows": "all" if data else "held back", "settings": settings}


def _own_data(run: Run, asked: Settings) -> DataConfig:
    """Return the run's data settings as they read from here; only the place of the same file may be another."""
    typed, wanted, own = run.config().data, run.config(asked).data, run.located(run.config()).data
    if "data.path" in by_leaf(asked) and run.began_with(wanted.path):
        own = own.model_copy(update={"path": wanted.path})
        wanted = wanted.model_copy(update={"path": typed.path})
    if wanted != typed:
        raise UsageError(
            "The data settings of a finished run decide which rows it never saw, and cannot be changed; data.path may "
            "name another file only if its bytes are the same.",
            "Name other rows with --data.",
        )
    return own


def _all_rows(asked: DataConfig, reporter: Reporter) -> Sequence[Conversation]:
    """Read a file in its own format, whatever the run's was, unless a format is asked for now."""
    splits, _ = load_splits(asked, reporter)
    rows = (*splits.train, *splits.validation, *splits.test)
    return sorted(rows, key=lambda row: (row.place.file, row.place.row))
