"""The judge's address and key: completed, kept to itself, or refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate.fake_judge import KEY, Judge

from heedful.commands.measure import endpoint_of
from heedful.errors import UsageError
from heedful.evaluate import endpoint as endpoints
from heedful.evaluate.endpoint import NoReply
from heedful.openai_server import error_text


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_judges_key_that_is_blank_is_none(blank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a service file's `KEY=${KEY}` leaves it; a judge of one's own needs none."""
    monkeypatch.setenv("HEEDFUL_JUDGE_KEY", blank)
    endpoint = endpoint_of("http://127.0.0.1:9/v1", "m", None)
    assert endpoint is not None and endpoint.key == ""


def test_the_key_goes_to_the_judge_and_nowhere_else(
    judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEEDFUL_JUDGE_KEY", KEY)
    asked = endpoint_of(judge.url, "grader", None)
    assert asked is not None
    assert asked.ask([{"role": "user", "content": "x"}])
    assert judge.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(asked) and KEY not in json.dumps(asked.body([]))
    file = tmp_path / "key"
    file.write_text(KEY[::-1] + "\n")
    from_file = endpoint_of(judge.url, "grader", file)
    assert from_file is not None and from_file.key == KEY[::-1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((None, "m", None), "--judge URL"),
        (("http://h/v1", None, None), "--judge-model"),
        (("ftp://h/v1", "m", None), "is not a URL"),
        (("file:///etc/passwd", "m", None), "is not a URL"),
        (("h:80", "m", None), "is not a URL"),
        (("http://h:99999/v1", "m", None), "is not a URL"),
        (("http://me:pw@h/v1", "m", None), "HEEDFUL_JUDGE_KEY"),
        (("http://h/v1", "m", Path("/no/such/file")), "Cannot read the key from /no/such/file: No such file"),
    ],
)
def test_a_judge_that_cannot_be_is_one_sentence(arguments: Any, told: str) -> None:
    with pytest.raises(UsageError) as error:
        endpoint_of(*arguments)
    assert told in str(error.value)
    assert "pw" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "completed"),
    [
        ("http://h", "http://h/v1/chat/completions"),
        ("http://h/v1", "http://h/v1/chat/completions"),
        ("https://h/chat/completions", "https://h/chat/completions"),
        ("http://h:8/v1/", "http://h:8/v1/chat/completions"),
        ("https://h/v1/chat/completions", "https://h/v1/chat/completions"),
        ("https://h/o/x?api-version=1", "https://h/o/x/chat/completions?api-version=1"),
    ],
)
def test_addresses_are_completed(url: str, completed: str) -> None:
    assert endpoints.completions_url(url) == completed


def test_no_reply_is_an_error_of_ours() -> None:
    assert str(NoReply("it is gone")) == "it is gone"


@pytest.mark.parametrize("query", ["key=secret1&v=2", "v=2&key=secret1", "key=secret1"])
def test_what_a_server_repeats_of_its_address_is_not_shown(query: str) -> None:
    said = json.dumps({"error": {"message": f"bad key secret1 or {KEY}, in {query}, " + "x" * 460 + "secret1"}})
    told = error_text(said, f"http://h/v1?{query}", KEY)
    assert told.startswith("bad key *** or ***") and "secret" not in told and "sk-" not in told
