"""What people say of answers is kept beside the run, and becomes rows that `heedful train` reads."""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from heedful import data
from heedful.cli import main
from heedful.errors import RunError, UsageError
from heedful.run import Run
from heedful.serve.feedback import Feedback, Opinion, export_feedback
from heedful.settings import load_config

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def opinion(id: str = "a", **said: Any) -> Opinion:
    return Opinion.model_validate({"id": id, "model": "m", "messages": QUESTION, "answer": "Lyon.", **said})


def test_a_changed_mind_replaces_what_was_said(run: Run) -> None:
    feedback = Feedback(run)
    assert feedback.counts() == {"up": 0, "down": 0, "better": 0}
    feedback.put(opinion(rating="up"))
    feedback.put(opinion(rating="down", better="Paris."))
    feedback.put(opinion("b", rating="up"))
    assert feedback.counts() == {"up": 1, "down": 1, "better": 1}
    assert [kept.rating for kept in feedback.opinions()] == ["down", "up"]
    feedback.put(opinion())  # taken back
    assert feedback.counts() == {"up": 1, "down": 0, "better": 0}


def test_the_export_holds_what_can_be_learned(run: Run) -> None:
    feedback = Feedback(run)
    talk = [{"role": "system", "content": "Be brief."}, *QUESTION, {"role": "assistant", "content": "Lyon."}]
    talk += [{"role": "user", "content": "Sure?"}]
    feedback.put(opinion("bad", rating="down"))
    feedback.put(opinion("good", rating="up", finish="stop"))
    feedback.put(opinion("cut", rating="up", finish="length"))
    feedback.put(opinion("written", rating="down", finish="stopped", better="No: it is Paris.", messages=talk))
    file, rows, others = export_feedback(run.path, None)
    assert (file, rows, others) == (run.path / "feedback.json", 2, 2)
    good, written = json.loads(file.read_text("utf-8"))
    assert good == {"messages": [*QUESTION, {"role": "assistant", "content": "Lyon."}]}
    assert [turn.get("weight") for turn in written["messages"]] == [None, None, 0, None, None]
    assert written["messages"][-1] == {"role": "assistant", "content": "No: it is Paris."}


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [("rating", "good", "Input should be 'up' or 'down'"), ("messages", "[", "Expecting value")],
)
def test_a_row_that_was_changed_by_hand_is_named(run: Run, column: str, value: str, why: str) -> None:
    feedback = Feedback(run)
    for name in ("a", "b"):
        feedback.put(opinion(name, rating="up"))
    with sqlite3.connect(feedback.file) as database:
        database.execute(f"UPDATE feedback SET {column} = ? WHERE id = 'b'", (value,))
    with pytest.raises(RunError, match=rf"feedback\.sqlite: the row .* id 'b' is no opinion: {why}.*Mend it"):
        export_feedback(run.path, None)


def test_the_export_replaces_no_file_but_its_own(run: Run, tmp_path: Path) -> None:
    Feedback(run).put(opinion(rating="up"))
    mine = tmp_path / "mine.json"
    mine.write_text("months of work")
    with pytest.raises(UsageError, match=rf"{mine} exists"):
        export_feedback(run.path, mine)
    assert mine.read_text() == "months of work"
    for _ in range(2):
        export_feedback(run.path, None)


def test_one_answer_is_told_as_one(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Feedback(run).put(opinion("good", rating="up"))
    Feedback(run).put(opinion("bad", rating="down"))
    with pytest.raises(SystemExit):
        main(["feedback", "export", str(run.path)])
    assert "1 answer to learn from; 1 was rated bad or cut off, with nothing better." in capsys.readouterr().err


def test_train_reads_the_export(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    feedback = Feedback(run)
    for number in range(20):
        asked = [{"role": "user", "content": f"How much is {number} times {number * 7}?"}]
        feedback.put(opinion(str(number), messages=asked, better=f"It is {number * number * 7}."))
    with pytest.raises(SystemExit) as left:
        main(["feedback", "export", str(run.path), "--out", str(tmp_path / "rows.json")])
    assert not left.value.code
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'rows.json'}\n"
    assert "20 answers to learn from" in said.err
    splits, receipt = data.load_splits(load_config(None, {"data.path": str(tmp_path / "rows.json")}).data)
    assert sum(len(part) for part in (splits.train, splits.validation, splits.test)) == 20, receipt


def test_nothing_to_learn_is_said(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"holds nothing to learn yet.*`heedful serve '{run.path}'`"):
        export_feedback(run.path, None)
    Feedback(run).put(opinion(rating="down"))
    with pytest.raises(UsageError, match="holds nothing to learn yet"):
        export_feedback(run.path, None)
    with pytest.raises(UsageError, match="is not a run"):
        export_feedback(tmp_path / "none", None)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"rating": "great"}, "rating"),
        ({"id": "../x"}, "id"),
        ({"id": ""}, "id"),
        ({"better": "  \n"}, "is empty"),
        ({"rating": "up", "answer": ""}, "is empty"),
        ({"messages": []}, "assistant, first"),
        ({"messages": [*QUESTION, *QUESTION]}, "user, after user"),
        ({"messages": [{"role": "root", "content": "x"}]}, "role"),
        ({"answer": "\ud800"}, "half of a surrogate pair"),
        ({"extra": 1}, "extra"),
    ],
)
def test_what_train_would_refuse_is_refused_at_the_door(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        opinion(**wrong)


def test_texts_come_back_as_they_were(run: Run) -> None:
    strange = "'; DROP TABLE feedback; -- \x00 \u202e 世界 👩‍🚀 <script>"
    Feedback(run).put(opinion(better=strange, answer=strange, messages=[{"role": "user", "content": strange}]))
    (kept,) = Feedback(run).opinions()
    assert (kept.better, kept.answer, kept.messages[0].content) == (strange, strange, strange)


def test_many_at_once_lose_nothing(run: Run) -> None:
    def put(thread: int) -> None:
        for number in range(10):
            Feedback(run).put(opinion(f"{thread}-{number}", rating="up"))

    threads = [threading.Thread(target=put, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Feedback(run).counts()["up"] == 60


def test_a_damaged_file_is_named(run: Run) -> None:
    (run.path / "feedback.sqlite").write_bytes(b"not a database, but long enough to be looked at" * 50)
    with pytest.raises(RunError, match=r"feedback\.sqlite cannot be used"):
        Feedback(run).put(opinion(rating="up"))


def test_the_file_is_plain_sqlite(run: Run) -> None:
    Feedback(run).put(opinion(rating="up"))
    database = sqlite3.connect(run.path / "feedback.sqlite")
    assert database.execute("SELECT id, rating FROM feedback").fetchall() == [("a", "up")]
    database.close()
