"""The terminal chat's other side may be a server: ours, over a real socket."""

from __future__ import annotations

import pytest
from tests.serve.conftest import Make, Saying

from heedful.errors import ModelError, UsageError
from heedful.records import Completion, Message, Sampling
from heedful.serve.guard import Trust
from heedful.serve.remote import connect

HELLO = [Message("user", "Hello")]


def test_a_server_is_talked_to_like_an_engine(live: Make) -> None:
    client = live({"m": Saying("naïve 世界\n\nend")}, trust=Trust("k"))
    remote = connect(str(client.base_url), None, "k")
    assert (remote.name, remote.positions) == ("m", 128)
    *pieces, whole = remote.stream(HELLO, Sampling(temperature=0.5, seed=3, stop=("never",), top_k=4))
    assert "".join(map(str, pieces)) == "naïve 世界\n\nend"
    assert isinstance(whole, Completion) and whole.finish_reason == "stop"
    assert remote.count(HELLO) >= 5


def test_what_a_server_refuses_is_a_sentence(live: Make) -> None:
    url = str(live({"m": Saying("x" * 100)}, trust=Trust("k")).base_url)
    with pytest.raises(UsageError, match="key is missing"):
        connect(url, None, None)
    with pytest.raises(UsageError, match="has no model 'y'"):
        connect(url, "y", "k")
    with pytest.raises(UsageError, match="is no URL"):
        connect("localhost:80", None, None)
    with pytest.raises(UsageError, match="No server answers"):
        connect("http://127.0.0.1:1", None, None)
    with pytest.raises(ModelError, match="context is 128 tokens"):
        list(connect(url, "m", "k").stream([Message("user", "x" * 100)], Sampling(max_tokens=1000)))
