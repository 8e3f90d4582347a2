"""The terminal chat, with lines for stdin and an engine that says what it is told to."""

from __future__ import annotations

from typing import Any

import pytest
from tests.generate.conftest import Bytes
from tests.models import tiny_model
from tests.serve.terminal import Scripted

from heedful.clean import clean
from heedful.errors import ModelError
from heedful.generate.engine import Engine
from heedful.generate.prefix_cache import PrefixCache
from heedful.records import Sampling
from heedful.serve.chat import TooLong


def test_a_pipe_gets_the_answers_and_nothing_else(run) -> None:  # type: ignore[no-untyped-def]
    engine = Scripted(["Hel", "lo"], ["Fine [b]x[/b] :smile:", "\n"])
    said = run(engine, "Hi\n\nHow are you?\n", system="Be brief.")
    assert said.out == "Hello\nFine [b]x[/b] :smile:\n\n"
    assert said.notes == ""
    assert engine.asked == [
        [("system", "Be brief."), ("user", "Hi")],
        [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "How are you?")],
    ]


def test_tabs_stay_tabs(run) -> None:  # type: ignore[no-untyped-def]
    makefile = "all:\n\tcc -o a a.c\nx\ty\n"
    said = run(Scripted([makefile], [makefile]), "Hi\n/compare\n", other=lambda: Scripted([makefile]))
    assert said.out == (makefile + "\n") * 2


def test_long_answers_are_not_wrapped(run) -> None:  # type: ignore[no-untyped-def]
    assert run(Scripted(["word " * 100]), "Hi\n").out == "word " * 100 + "\n"


def test_undo_takes_back_a_turn(run) -> None:  # type: ignore[no-untyped-def]
    engine = Scripted(["1"], ["2"], ["3"])
    said = run(engine, "a\nb\n/undo\nc\n")
    assert engine.asked[2] == [("user", "a"), ("assistant", "1"), ("user", "c")]
    assert said.notes == "Taken back: b\n"
    assert run(Scripted(), "/undo\n").notes == "There is no message yet.\n"


def test_retry_asks_again_with_another_seed(run) -> None:  # type: ignore[no-untyped-def]
    engine = Scripted(["1"], ["2"], ["3"], ["4"])
    said = run(engine, "a\n/retry\n/retry\nb\n", Sampling(temperature=1, seed=7))
    assert engine.asked[:3] == [[("user", "a")]] * 3
    assert engine.asked[3] == [("user", "a"), ("assistant", "3"), ("user", "b")]
    assert engine.seeds == [7, 8, 9, 7]
    assert said.notes == ""
    assert "the same each time" in run(Scripted(["1"], ["1"]), "a\n/retry\n").notes
    assert run(Scripted(), "/retry\n").notes == "There is no message yet.\n"


def test_system_sets_the_message_and_takes_it_away(run) -> None:  # type: ignore[no-untyped-def]
    engine = Scripted(["1"], ["2"])
    run(engine, "/system You are a  pirate.\na\n/system\nb\n")
    assert engine.asked[0][0] == ("system", "You are a  pirate.")
    assert engine.asked[1][0] == ("user", "a")


@pytest.mark.parametrize(
    ("positions", "told"),
    [
        (128, "Cut off at the limit of 12 tokens; /set max_tokens N raises it.\n"),
        (10, "Cut off where the model's context of 10 tokens ends.\n"),
    ],
)
def test_an_answer_that_was_cut_off_is_told_with_what_raises_the_limit(run, positions: int, told: str) -> None:  # type: ignore[no-untyped-def]
    engine = Engine(tiny_model("llama", max_position_embeddings=positions), Bytes(stop=()), "tiny")
    (answer,) = engine.generate(["Hello"], limited := Sampling(max_tokens=12))
    said = run(engine, "Hello\n/compare\n", limited, other=lambda: engine)
    assert said.notes == f"{told}tiny:\n{told}"
    assert said.out == f"{clean(answer.text)}\n" * 2  # and the answers alone on stdout


def test_of_a_server_is_told_that_it_cut_the_answer_off(run) -> None:  # type: ignore[no-untyped-def]
    """It may have had another reason than its limit."""
    engine = Scripted(["half"])
    engine.finish = "length"
    told = "Cut off by the server. If that is its limit of tokens, /set max_tokens N raises it.\n"
    assert run(engine, "a\n").notes == told


def test_what_a_server_finds_too_long_is_asked_without_the_oldest_turns(run) -> None:  # type: ignore[no-untyped-def]
    engine = Scripted(["1"], ["2"], [TooLong("Too long.")], ["3"], ["4"], [TooLong("Too long.")])
    said = run(engine, "a\nb\nc\nd\n/system S\n/undo\n/undo\n/undo\n/undo\ne\n")
    assert ["".join(text for _, text in asked) for asked in engine.asked] == ["a", "a1b", "a1b2c", "b2c", "b2c3d", "Se"]
    assert said.notes.count("left out") == 1
    assert said.notes.endswith("No answer came; the message is dropped.\nToo long.\n")


@pytest.mark.parametrize(("line", "seen"), [("long", ["a1b2long", "b2long", "long"]), ("/retry", ["a1b", "b"])])
def test_a_message_too_long_by_itself_makes_no_talk_forget(run, line: str, seen: list[str]) -> None:  # type: ignore[no-untyped-def]
    too_long = [TooLong("Too long.")]
    engine = Scripted(["1"], ["2"], *[too_long] * len(seen), ["3"])
    said = run(engine, f"a\nb\n{line}\nc\n")
    asked = ["".join(text for _, text in messages) for messages in engine.asked]
    assert asked == ["a", "a1b", *seen, "a1b2c"]
    assert "No answer came" in said.notes


@pytest.mark.parametrize("nothing", [[], [" \n"]])
def test_a_script_knows_of_a_message_without_an_answer(run, nothing: list[str]) -> None:  # type: ignore[no-untyped-def]
    said = run(Scripted(nothing, ["b"]), "x\ny\n")
    assert (said.code, said.out.split()) == (1, ["b"])
    assert "No answer came; the message is dropped." in said.notes


def test_unknown_commands_are_met_with_the_nearest(run) -> None:  # type: ignore[no-untyped-def]
    engine = Scripted(["1"])
    said = run(engine, "/sav x\n/xyzzy\n /etc/hosts is what?\n/quit\nnever asked\n")
    assert said.notes.splitlines() == [
        "There is no command '/sav'. Did you mean '/save'? A message may begin with / after a space.",
        "There is no command '/xyzzy'. /help lists them. A message may begin with / after a space.",
    ]
    assert engine.asked == [[("user", "/etc/hosts is what?")]]
    assert said.code == 1  # a script knows that lines of it were no messages


def test_help_names_every_command(run) -> None:  # type: ignore[no-untyped-def]
    notes = run(Scripted(), "/help\n").notes
    assert all(f"/{name}" in notes for name in ("retry", "undo", "system", "set", "compare", "save", "help", "quit"))


def test_oldest_turns_leave_first_and_it_is_said_once(run) -> None:  # type: ignore[no-untyped-def]
    engine = Scripted(["x" * 10], ["y" * 10], ["z"], ["w"], positions=50)
    lines = "".join(letter * 10 + "\n" for letter in "abcd")
    said = run(engine, lines, Sampling(max_tokens=20), "S" * 5)
    seen = ["".join(content[0] for _, content in asked) for asked in engine.asked]
    assert seen == ["Sa", "Sb", "Sc", "Sczd"]
    assert said.notes.count("left out") == 1


def test_ctrl_c_stops_an_answer_and_keeps_what_was_said(run) -> None:  # type: ignore[no-untyped-def]
    engine = Scripted(["half", KeyboardInterrupt()], [KeyboardInterrupt()], ["3"])
    said = run(engine, "a\nb\nc\n")
    assert said.out == "half\n3\n"
    assert said.notes == " [stopped]\n" * 2 + "No answer came; the message is dropped.\n"
    assert engine.asked[2] == [("user", "a"), ("assistant", "half"), ("user", "c")]


def test_ctrl_c_at_the_prompt_does_not_leave(run, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    lines = iter([KeyboardInterrupt(), "a", EOFError()])

    def read(_: str) -> str:
        line = next(lines)
        if isinstance(line, BaseException):
            raise line
        return line

    monkeypatch.setattr("builtins.input", read)
    said = run(Scripted(["1"]), "")
    assert (said.out, said.code, "/quit leaves" in said.notes) == ("1\n", 0, True)


def test_an_error_is_a_sentence_and_the_talk_goes_on(run) -> None:  # type: ignore[no-untyped-def]
    engine = Scripted([ModelError("A prompt of 9 tokens leaves no room.", "Shorten it.")], ["2"])
    said = run(engine, "a\nb\n")
    assert said.notes.splitlines() == [
        "No answer came; the message is dropped.",
        "A prompt of 9 tokens leaves no room. Shorten it.",
    ]
    assert (said.out, said.code) == ("2\n", 1)  # a script knows that an answer is missing
    assert engine.asked[1] == [("user", "b")]


@pytest.mark.parametrize("nothing", [[], [" \n"], [KeyboardInterrupt()], [ModelError("It broke.")]], ids=repr)
def test_another_try_without_an_answer_leaves_the_one_before(run, nothing: list[Any]) -> None:  # type: ignore[no-untyped-def]
    engine = Scripted(["1"], nothing, ["3"])
    said = run(engine, "a\n/retry\nb\n", Sampling(temperature=1))
    assert engine.asked[2] == [("user", "a"), ("assistant", "1"), ("user", "b")]
    assert "No answer came; the previous one is kept." in said.notes


def test_set_changes_the_sampling(run) -> None:  # type: ignore[no-untyped-def]
    engine = Scripted(["1"])
    said = run(engine, "/set seed 5\n/set temperature hot\n/set top_p 2\n/set tempature 1\n/set\na\n")
    assert engine.seeds == [5]
    lines = said.notes.splitlines()
    assert lines[0] == "seed is 5 now."
    assert lines[1] == "temperature must be a number."
    assert "Impossible sampling: top_p=2.0" in lines[2]
    assert lines[3] == "There is no setting 'tempature'. Did you mean 'temperature'?"
    assert "temperature 0.0" in lines and "top_p 1.0" in lines


def test_what_is_not_named_is_the_servers_to_decide(run) -> None:  # type: ignore[no-untyped-def]
    named = {"top_p"}
    lines = run(Scripted(["1"], ["2"]), "/set seed 0\n/set\na\n/retry\n", named=named).notes.splitlines()
    assert named == {"top_p", "seed"}
    assert {"seed 0", "top_p 1.0", "temperature the server's default"} <= set(lines)
    assert not any("the same each time" in line for line in lines)


def test_compare_asks_the_other_model_and_leaves_no_trace(run) -> None:  # type: ignore[no-untyped-def]
    engine, base = Scripted(["tuned"], ["later"]), Scripted(["base\x1b[31m"])
    said = run(engine, "a\n/compare\nb\n", system="S", other=lambda: base)
    assert said.out == "tuned\nbase\nlater\n"
    assert base.asked == [[("system", "S"), ("user", "a")]]
    assert engine.asked[1] == [("system", "S"), ("user", "a"), ("assistant", "tuned"), ("user", "b")]
    assert "There is no message yet." in run(Scripted(), "/compare\n", other=lambda: base).notes
    assert "no other model" in run(Scripted(["1"]), "a\n/compare\n").notes


def test_lines_between_fences_are_one_message(run) -> None:  # type: ignore[no-untyped-def]
    engine = Scripted(["1"], ["2"])
    run(engine, '"""first\n  /second\n\nthird"""\n"""one"""\n')
    assert engine.asked[0] == [("user", "first\n  /second\n\nthird")]
    assert engine.asked[1][-1] == ("user", "one")


@pytest.mark.parametrize("fence", ['"""', '"""one', '"""one\n""', '"""one\n\n'])
def test_a_message_that_is_not_ended_is_said_and_a_script_knows(run, fence: str) -> None:  # type: ignore[no-untyped-def]
    engine = Scripted(["1"])
    said = run(engine, f"a\n{fence}")
    assert (said.out, said.code) == ("1\n", 1)
    assert said.notes == 'A message begun with """ was not ended. End it with """.\n'
    assert engine.asked == [[("user", "a")]]


def test_with_a_real_engine(run) -> None:  # type: ignore[no-untyped-def]
    engine = Engine(tiny_model("llama"), Bytes(), "tiny")
    expected = engine.generate(["Hello"], Sampling(max_tokens=12))[0].text
    assert run(engine, "Hello\n", Sampling(max_tokens=12)).out == clean(expected) + "\n"


def test_a_conversation_is_not_read_again_at_no_change_of_a_bit(run) -> None:  # type: ignore[no-untyped-def]
    lines = "Hello, this is a line of some length.\nAnd another one.\nOne more.\n"
    fresh, keeping = (Engine(tiny_model("llama"), Bytes(), "tiny") for _ in range(2))
    keeping.prefix_cache = PrefixCache(2**20)
    read: list[bytes] = []
    keep = keeping.prefix_cache.keep
    keeping.prefix_cache.keep = lambda key, states: (read.append(key), keep(key, states))[1]  # type: ignore[method-assign]
    said = [run(engine, lines, Sampling(max_tokens=12, temperature=1, seed=3)).out for engine in (fresh, keeping)]
    assert said[0] == said[1]
    assert len(read) == len(set(read)) >= 3  # each unit once


def test_answers_are_cleaned_before_they_are_shown(run) -> None:  # type: ignore[no-untyped-def]
    assert run(Scripted(["a\x1b", "[2", "Jb\x1b]0;evil", "\x07c"]), "Hi\n").out == "abc\n"
