"""The terminal chat's other side may be a server: ours, over a real socket."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from fastapi import FastAPI, Response
from tests.serve.conftest import Make, Saying
from tests.serve.page.standin import serving

from heedful.cli import main
from heedful.errors import ModelError, UsageError
from heedful.records import Completion, Message, Sampling
from heedful.serve.chat import TooLong
from heedful.serve.guard import AccessPolicy
from heedful.serve.remote import connect

HELLO = [Message("user", "Hello")]


def test_a_server_is_talked_to_like_an_engine(live: Make) -> None:
    client = live({"m": Saying("naïve 世界\n\nend")}, policy=AccessPolicy("k"))
    remote = connect(str(client.base_url), None, "k")
    assert (remote.name, remote.positions) == ("m", 128)
    remote.named |= {"temperature", "seed", "stop", "top_k"}
    *pieces, whole = remote.stream(HELLO, Sampling(temperature=0.5, seed=3, stop=("never",), top_k=4))
    assert "".join(map(str, pieces)) == "naïve 世界\n\nend"
    assert isinstance(whole, Completion) and whole.finish_reason == "stop"


def test_what_a_server_refuses_is_a_sentence(live: Make) -> None:
    url = str(live({"m": Saying("x" * 100)}, policy=AccessPolicy("k")).base_url)
    with pytest.raises(UsageError, match="key is missing"):
        connect(url, None, None)
    with pytest.raises(UsageError, match="has no model 'y'"):
        connect(url, "y", "k")
    with pytest.raises(UsageError, match="is not the URL"):
        connect("localhost:80", None, None)
    for nowhere in ("http://127.0.0.1:1", "http://127.0.0.1:port", "http://a\x00b"):
        with pytest.raises(UsageError, match="No server answers"):
            connect(nowhere, None, None)
    remote = connect(url, "m", "k")
    remote.named.add("max_tokens")
    with pytest.raises(TooLong, match="context is 128 tokens"):
        list(remote.stream([Message("user", "x" * 100)], Sampling(max_tokens=1000)))


def test_turns_stay_until_the_server_finds_them_too_long(
    live: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """This server's context is 128 bytes, nearly."""
    client = live({"m": Saying("ok")}, defaults=Sampling(max_tokens=8))
    words = ["x" * 30, "y" * 30, "Last"]

    def talk(lines: list[str]) -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        with pytest.raises(SystemExit) as end:
            main(["chat", "--url", str(client.base_url)])
        assert not end.value.code
        said = capsys.readouterr()
        assert said.out == "ok\n" * len(lines)
        return said.err

    assert talk(words) == ""
    assert "oldest turns are left out" in talk(["x" * 60, "y" * 60, "Last"])


def test_a_path_after_the_host_is_taken_as_it_stands() -> None:
    app = FastAPI()
    app.mount("/api", other_server("data: [DONE]\n\n"))
    with serving(app) as url:
        assert [*connect(f"{url}/api/v1?key=secret", None, None).stream(HELLO, Sampling())][-1]
        with pytest.raises(UsageError, match=r"The server at .*/api/\?\.\.\. says") as error:
            connect(f"{url}/api/?key=secret", None, None)
        assert "secret" not in str(error.value)


def other_server(stream: str) -> FastAPI:
    """A server that is not ours, and answers everything with one stream; `state.asked` holds what it was asked."""
    app = FastAPI()
    app.state.asked = []

    @app.get("/v1/models")
    def models() -> dict[str, object]:
        return {"data": [{"id": "other", "max_model_len": None}]}

    @app.post("/v1/chat/completions")
    def answer(body: dict[str, Any]) -> Response:
        app.state.asked.append(body)
        return Response(stream, media_type="text/event-stream")

    return app


def written(*chunks: object) -> str:
    return "".join(f"data:{json.dumps(chunk, ensure_ascii=False)}\r\n\r\n" for chunk in chunks)


def test_other_servers_write_other_streams() -> None:
    """Line separators as they are, fields that are null, no space before the end."""
    text = "one\u2028two\u2029three\x85four\r\nfive"
    chunks = [
        {"choices": None, "error": None},
        {"choices": [{"delta": None}]},
        {"choices": [{"delta": {"content": text}}]},
        {"choices": [{"delta": {}, "finish_reason": "length"}]},
    ]
    with serving(other_server(f": hello\n{written(*chunks)}data:[DONE] \n\n")) as url:
        *pieces, whole = connect(url, None, None).stream(HELLO, Sampling())
    assert "".join(map(str, pieces)) == text
    assert isinstance(whole, Completion) and (whole.text, whole.finish_reason) == (text, "length")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"error": {"message": "no such\\npath", "code": 5}}', "no such path"),
        ('{"error": "no such path"}', "no such path"),
        ('{"detail": "Not Found"}', '{"detail": "Not Found"}'),
        ("<h1>No such path</h1>", "<h1>No such path</h1>"),
        ("", "nothing"),
    ],
)
def test_an_error_of_whatever_shape_is_told_in_one_line(body: str, said: str) -> None:
    app = FastAPI()
    app.get("/v1/models")(lambda: Response(body, status_code=404))
    with serving(app) as url, pytest.raises(UsageError) as refused:
        connect(url, None, None)
    assert refused.value.problem == f"The server at {url} says: {said}"


def test_events_that_say_nothing_are_passed_over() -> None:
    """An empty one keeps a connection open; others have been seen of servers and of proxies before them."""
    nothing = "data:\n\ndata: \n\ndata: null\n\ndata: []\n\ndata: 3\n\n"
    end = written({"choices": [{"delta": {"content": "Yes."}, "finish_reason": "stop"}]})
    with serving(other_server(nothing + end + nothing)) as url:
        *pieces, _ = connect(url, None, None).stream(HELLO, Sampling())
    assert pieces == ["Yes."]


HALF = written({"choices": [{"delta": {"content": "Half"}, "finish_reason": None}]})


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("data: [DONE]\n\n", "stop"),
        ("data: [DONE]", "stop"),
        (written({"choices": [{"delta": {}, "finish_reason": "stop"}]}), "stop"),
        (written({"choices": [{"delta": {}, "finish_reason": "content_filter"}]}) + "data: [DONE]\n\n", "length"),
    ],
)
def test_an_answer_ends_as_its_server_says(end: str, reason: str) -> None:
    with serving(other_server(HALF + end)) as url:
        *_, whole = connect(url, None, None).stream(HELLO, Sampling())
    assert isinstance(whole, Completion) and (whole.text, whole.finish_reason) == ("Half", reason)


@pytest.mark.parametrize("choice", ["Hi", {"delta": "Hi"}, {"delta": {"content": [{"type": "text", "text": "Hi"}]}}])
def test_an_answer_of_another_shape_is_a_sentence(choice: object) -> None:
    """Some servers write an answer in parts where its model thinks."""
    with serving(other_server(written({"choices": [choice]}))) as url, pytest.raises(ModelError, match="sent no chat"):
        list(connect(url, None, None).stream(HELLO, Sampling()))


def test_an_answer_without_an_end_is_no_whole_one() -> None:
    with serving(other_server(HALF)) as url:
        answer = connect(url, None, None).stream(HELLO, Sampling())
        assert next(answer) == "Half"
        with pytest.raises(ModelError, match="cut off"):
            next(answer)


def test_what_was_named_is_sent_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neutral values too: the server's own settings may be others."""
    app = other_server(HALF + "data: [DONE]\n\n")
    lines = "a\n/set seed 0\n/set temperature 0\n/set stop end\na\n/set stop\na\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    with serving(app) as url, pytest.raises(SystemExit) as end:
        main(["chat", "--url", url, "--max-tokens", "9000", "--set", "generate.top_p=1"])
    assert not end.value.code
    sent = [{name: value for name, value in body.items() if name != "messages"} for body in app.state.asked]
    first = {"model": "other", "stream": True, "max_tokens": 9000, "top_p": 1.0}
    second = first | {"seed": 0, "temperature": 0.0, "stop": ["end"]}
    assert sent == [first, second, second | {"stop": []}]


def test_with_a_url_the_name_is_that_of_a_servers_model(capsys: pytest.CaptureFixture[str]) -> None:
    """It is not looked for on this machine."""
    with pytest.raises(SystemExit) as end:
        main(["chat", "tuned", "--url", "http://127.0.0.1:9/v1"])
    assert end.value.code == 2
    assert "No server answers at http://127.0.0.1:9/v1" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["http://", "http://127.0.0.1:9"])
def test_a_sentence_has_one_full_stop(url: str) -> None:
    with pytest.raises(UsageError) as error:
        connect(url, None, None)
    assert re.search(r"[^.]\. Is it running\?$", str(error.value))
