"""Ollama's template writes the same text as ours: Go's own text/template renders what stands in the Modelfile."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.export.runs import GEMMA, make_run
from tests.models import byte_tokenizer, sentencepiece_tokenizer, trained_tokenizer
from transformers import PreTrainedTokenizerBase

from heedful import pipeline
from heedful.encode.template import choose_template
from heedful.encode.tokenise import Encoder, stop_ids
from heedful.errors import ExportError
from heedful.export.modelfile import around_of, go_template, modelfile, quoted
from heedful.records import Message
from heedful.settings import load_config

# Ollama hands its template the conversation, the system message's text beside it. In a Modelfile, a value that begins
# with quotes goes on until it ends with them; nothing in it is an escape, and what does not print is dropped.
PROGRAM = """
package main

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"text/template"
)

type message struct{ Role, Content string }
type task struct {
	Template      string
	Conversations [][]*message
	Modelfile     string
}

func bare(value string) (string, bool) {
	for _, marks := range []string{`\"\"\"`, `"`} {
		if strings.HasPrefix(value, marks) {
			closed := len(value) >= 2*len(marks) && strings.HasSuffix(value, marks)
			return strings.TrimSuffix(strings.TrimPrefix(value, marks), marks), closed
		}
	}
	return value, true
}

func values(modelfile string) [][2]string {
	found, line := [][2]string{}, ""
	for _, c := range modelfile {
		name, value, _ := strings.Cut(line, " ")
		if name == "PARAMETER" {
			name, value, _ = strings.Cut(value, " ")
		}
		if text, closed := bare(strings.TrimSpace(value)); c == '\\n' && closed {
			found, line = append(found, [2]string{name, text}), ""
		} else if c == '\\n' || c == '\\r' || c == '\\t' || strconv.IsPrint(c) {
			line += string(c)
		}
	}
	return found
}

func main() {
	var given task
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		panic(err)
	}
	if given.Modelfile != "" {
		json.NewEncoder(os.Stdout).Encode(values(given.Modelfile))
		return
	}
	parsed := template.Must(template.New("").Option("missingkey=zero").Parse(given.Template))
	for _, messages := range given.Conversations {
		system := ""
		if messages[0].Role == "system" {
			system = messages[0].Content
		}
		if err := parsed.Execute(os.Stdout, map[string]any{"System": system, "Messages": messages}); err != nil {
			panic(err)
		}
		os.Stdout.WriteString("\\x00")
	}
}
"""
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NUMBERED = (
    "{% for m in messages %}{{ loop.index ~ '. ' + m['content'] + (eos_token if m['role'] == 'assistant' else '\n') }}"
    "{% endfor %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


def encoder(name: str, own: str | None = None, tokenizer: PreTrainedTokenizerBase | None = None) -> Encoder:
    tokenizer = tokenizer or byte_tokenizer()
    tokenizer.chat_template = own
    template = choose_template(name, tokenizer)  # type: ignore[arg-type]
    return Encoder(template, stop_ids(template), 128)


def conversations() -> list[list[Message]]:
    texts = ["Hello!", 'Two\nlines, "quotes" and {{ .Braces }}', "你好 🙂 \\n", " outer space ", "```\ncode\n```"]
    turns = [Message("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(texts)]
    plain = [turns[:1], turns[:3], turns]
    return [*plain, *([Message("system", "Be brief."), *some] for some in plain)]


@pytest.fixture(scope="session")
def go(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the Go program that stands for Ollama."""
    compiler = shutil.which("go")
    if compiler is None:
        pytest.skip("Go is not installed")
    folder = tmp_path_factory.mktemp("go")
    (folder / "main.go").write_text(PROGRAM)
    command = [compiler, "build", "-o", str(folder / "render"), str(folder / "main.go")]
    subprocess.run(command, check=True, env={"HOME": str(folder), "PATH": "/usr/bin:/bin", "GO111MODULE": "off"})
    return folder / "render"


def rendered_by_go(program: Path, template: str, wanted: list[list[Message]]) -> list[str]:
    messages = [[{"Role": m.role, "Content": m.content} for m in conversation] for conversation in wanted]
    task = json.dumps({"Template": template, "Conversations": messages})
    done = subprocess.run([str(program)], input=task.encode(), stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().split("\x00")[:-1]


def read_by_ollama(program: Path, modelfile: str) -> list[tuple[str, str]]:
    """Return what a Modelfile says, as pairs of a name and a value."""
    done = subprocess.run([str(program)], input=json.dumps({"Modelfile": modelfile}).encode(), capture_output=True)
    return [(name, value) for name, value in json.loads(done.stdout)]


def rendered_by_us(bound: Encoder, conversation: list[Message]) -> str:
    pieces = bound.template.pieces(conversation, add_generation_prompt=True)
    return "".join(segment.text for piece in pieces for segment in piece)


@pytest.mark.parametrize(
    ("name", "own"), [("alpaca", None), ("chatml", None), ("own", SMOLLM2), ("own", NO_SYSTEM), ("own", GEMMA)]
)
def test_go_writes_what_jinja_writes(go: Path, name: str, own: str | None) -> None:
    bound = encoder(name, own, sentencepiece_tokenizer() if own == GEMMA else None)
    system = around_of(bound).system is not None
    wanted = [c for c in conversations() if system or c[0].role != "system"]
    theirs = rendered_by_go(go, go_template(bound), wanted)
    begin = "<bos>" if own == GEMMA else ""  # Ollama adds it to the tokens
    assert [begin + text for text in theirs] == [rendered_by_us(bound, conversation) for conversation in wanted]
    assert system == (own != NO_SYSTEM)


def test_a_template_that_looks_beyond_roles_is_refused() -> None:
    with pytest.raises(ExportError, match="more than the message's role"):
        go_template(encoder("own", NUMBERED))


def test_the_modelfile_stops_and_samples_as_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "llama", trained_tokenizer("smollm"), "alpaca")
    made = pipeline.export(run, "ollama", quantize="q8_0")
    lines = (made.path / "Modelfile").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "FROM ./run-q8_0.gguf"
    assert (made.path / "run-q8_0.gguf").is_file()
    assert lines[1].startswith('TEMPLATE """{{- if .System }}')
    assert 'PARAMETER stop "<|im_end|>"' in lines
    assert {"PARAMETER temperature 0.0", "PARAMETER repeat_penalty 1.0", "PARAMETER num_ctx 512"} <= set(lines)


STOPS = [
    "[/b]", "\n\nQ:", 'say "no"', '"', '""', 'a"""b', "C:\\new", "\\n", " two  ", "\tx", '"\n"', "é🙂", "#",
]  # fmt: skip


def test_ollama_reads_the_stop_strings_and_the_sampling_that_were_set(go: Path) -> None:
    settings = {"generate.stop": STOPS, "generate.temperature": 0.5}
    read = read_by_ollama(go, modelfile("run.gguf", encoder("chatml"), load_config(None, settings)))
    assert [value for name, value in read if name == "stop"] == ["<|im_end|>", *STOPS]
    assert {("FROM", "./run.gguf"), ("top_k", "0"), ("top_p", "1.0"), ("temperature", "0.5")} <= set(read)
    assert dict(read)["TEMPLATE"] == go_template(encoder("chatml"))


@pytest.mark.parametrize("stop", ["", "a\u00a0b", "\x1b", "\u200b", 'x"""\ny', 'x""" \ny', '"""\n'])
def test_a_stop_string_that_ollama_would_misread_is_refused(stop: str, go: Path) -> None:
    with pytest.raises(ExportError, match="cannot be written for Ollama"):
        quoted(stop)
    read = read_by_ollama(go, f'PARAMETER stop """{stop}"""\nPARAMETER top_k 1\n')
    assert not stop or read != [("stop", stop), ("top_k", "1")]


def test_characters_that_ollama_drops_are_escaped_in_its_template(go: Path) -> None:
    """A template's own text is a string of Go's, which knows escapes."""
    bound = encoder("own", NO_SYSTEM.replace(": '", "\u00a0\u200b\x7f🙂: '"))
    template = dict(read_by_ollama(go, modelfile("run.gguf", bound, load_config())))["TEMPLATE"]
    conversation = conversations()[1]
    assert rendered_by_go(go, template, [conversation]) == [rendered_by_us(bound, conversation)]
