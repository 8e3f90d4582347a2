"""Two runs are compared on the rows that both answered, under the same settings, or refused in a sentence."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from tests.evaluate.verbs import said

import heedful
from heedful.cli import main
from heedful.errors import UsageError
from heedful.report import tables
from heedful.run import Run
from heedful.system.atomic import read_json, write_json


def test_two_runs_are_compared_row_by_row(run: Run, copy: Run, capsys: pytest.CaptureFixture[str]) -> None:
    found = heedful.compare(run, copy)
    assert found["runs"] == [str(run.path), str(copy.path)]
    assert found["decides"] == "rouge_l"
    assert found["paired"].keys() >= {"nll", "bits_per_byte", "rouge_l", "corpus_bleu", "stopped", "distinct_2"}
    assert all(pair["verdict"] == "within noise; no row differs" for pair in found["paired"].values())
    assert found["forgetting"]["paired"]["chosen"]["difference"] == 0
    assert found["checks"]["models"].keys() == set(found["runs"])
    (page,) = copy.path.glob("compare-*.html")
    assert f"The comparison as a page: {page}" in capsys.readouterr().err.replace("\n", "")
    written = page.read_bytes()
    page.unlink()
    assert said(["compare", run.path, copy.path], capsys)[0] == 0
    assert page.read_bytes() == written  # the command and the verb of Python do the same


def test_answers_written_under_other_settings_are_not_compared_in_silence(
    run: Run, copy: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read_json(copy.evaluation_file)
    found["of"]["settings"] = {"generate.max_tokens": 99, "generate.stop": ["[/b]"]}
    write_json(copy.evaluation_file, found)
    differ = heedful.compare(run, copy)["differences"]
    assert differ == {"generate.max_tokens": [6, 99], "generate.stop": [[], ["[/b]"]]}
    assert said(["compare", run.path, copy.path], capsys)[0] == 0
    (page,) = copy.path.glob("compare-*.html")
    assert "generate.max_tokens" in page.read_text(encoding="utf-8").split('id="settings"')[1]
    tables.show_evaluation(found)
    assert 'answered with generate.max_tokens=99, generate.stop=["[/b]"]' in " ".join(capsys.readouterr().out.split())


def test_other_rows_are_refused_with_the_count_of_common_ones(run: Run, copy: Run) -> None:
    lines = copy.scores_file.read_text().splitlines(keepends=True)
    copy.scores_file.write_text("".join(lines[:-2]))
    with pytest.raises(UsageError, match=rf"of which {len(lines) - 2} are the same. Add --common"):
        heedful.compare(run, copy)
    assert heedful.compare(run, copy, common=True)["rows"] == len(lines) - 2
    copy.scores_file.write_text("".join(line.replace('"key": "', '"key": "x') for line in lines))
    with pytest.raises(UsageError, match="no row in common"):
        heedful.compare(run, copy, common=True)
    with pytest.raises(UsageError, match="is given as both runs"):
        heedful.compare(run, run)
    copy.evaluation_file.unlink()
    with pytest.raises(UsageError, match="was not evaluated yet"):
        heedful.compare(run, copy)


def test_a_comparison_is_shown_even_where_its_page_cannot_be_written(
    run: Run, copy: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As root may write anywhere, the system is made to refuse."""

    def closed(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    expected = heedful.compare(run, copy)
    capsys.readouterr()
    monkeypatch.setattr("heedful.system.atomic.open", closed, raising=False)
    monkeypatch.setattr(Path, "unlink", closed)  # which refuses to remove even what is not there
    with pytest.raises(SystemExit) as end:
        main(["compare", str(run.path), str(copy.path), "--json"])
    said = capsys.readouterr()
    assert not end.value.code and json.loads(said.out) == json.loads(json.dumps(expected))
    told = " ".join(said.err.split())
    assert "The comparison is not kept as a page: Cannot write " in told and "Read-only file system" in told
