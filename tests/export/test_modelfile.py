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
from heedful.export.modelfile import around_of, go_template
from heedful.records import Message

# Ollama hands its template the conversation, the system message's text beside it.
PROGRAM = """
package main

import (
	"encoding/json"
	"os"
	"text/template"
)

type message struct{ Role, Content string }
type task struct {
	Template      string
	Conversations [][]*message
}

func main() {
	var given task
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		panic(err)
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


def rendered_by_us(bound: Encoder, conversation: list[Message]) -> str:
    return "".join(segment.text for piece in bound.template.pieces(conversation, ask=True) for segment in piece)


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
