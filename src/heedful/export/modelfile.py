"""A chat template as Ollama writes it: a Modelfile beside the GGUF file, with a Go template, stop words and sampling.

Ollama does not read Jinja. What a template puts around the texts of a conversation is found by rendering one; where it
is the same for every turn it is written down as a Go template, and where it is not, the template is refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from heedful.config import Config
from heedful.encode.template import adds_bos
from heedful.encode.tokenise import Encoder
from heedful.errors import ExportError, ModelError
from heedful.records import Message

SYSTEM, USER, ANSWER = "\ue0a0system\ue0a1", "\ue0a0user\ue0a1", "\ue0a0answer\ue0a1"
WITH_SYSTEM = "{{- if .System }}{{ SYSTEM_BEFORE }}{{ .System }}{{ SYSTEM_AFTER }}{{ else }}{{ START }}{{ end }}\n"
WITHOUT_SYSTEM = "{{- START }}\n"
TURNS = """\
{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 }}
{{- if eq .Role "user" }}{{ .Content }}{{ USER_AFTER }}
{{- else if eq .Role "assistant" }}{{ .Content }}{{ if not $last }}{{ ANSWER_AFTER }}{{ end }}
{{- end }}
{{- end }}"""
EXAMPLES = ("Hello!", "Two lines,\nand {{ braces }}.", "你好 🙂", '"quoted" \\ `code`', "a\n\nb")


@dataclass(frozen=True)
class Around:
    """What stands around the texts of a conversation; `system` is None where the template knows no system message."""

    start: str  # before the first question, if there is no system message
    system: tuple[str, str] | None  # before and after a system message
    user_after: str  # up to where the answer begins
    answer_after: str  # up to where the next question begins

    def text(self, messages: Sequence[Message]) -> str:
        """Write a conversation that ends with a question."""
        before, after = self.system or ("", "")
        text = self.start
        for message in messages:
            if message.role == "system":
                text = before + message.content + after
            else:
                text += message.content + (self.user_after if message.role == "user" else self.answer_after)
        return text

    def go(self) -> str:
        """Write the Go template."""
        before, after = self.system or ("", "")
        parts = {"SYSTEM_BEFORE": before, "SYSTEM_AFTER": after, "START": self.start}
        parts |= {"USER_AFTER": self.user_after, "ANSWER_AFTER": self.answer_after}
        text = (WITH_SYSTEM if self.system else WITHOUT_SYSTEM) + TURNS
        return re.sub(r"\b[A-Z]+_?[A-Z]+\b", lambda name: _go_string(parts[name[0]]), text)


def go_template(encoder: Encoder) -> str:
    """Return a template in Go's language, without the first-token marker that Ollama adds itself."""
    around = around_of(encoder)
    bos = encoder.tokenizer.bos_token if adds_bos(encoder.tokenizer) else ""
    system = around.system and (around.system[0].removeprefix(bos), around.system[1])
    return replace(around, start=around.start.removeprefix(bos), system=system).go()


def around_of(encoder: Encoder) -> Around:
    """Find what stands around texts, and prove it on conversations of several lengths."""
    user, answer, system = Message("user", USER), Message("assistant", ANSWER), Message("system", SYSTEM)
    turns = _split(encoder, [user, answer, user])
    if turns is None or len(turns) != 4:
        raise _refused(encoder, "it drops or changes texts")
    with_system = _split(encoder, [system, user, answer, user])
    around = Around(turns[0], (with_system[0], with_system[1]) if with_system else None, turns[1], turns[2])
    for conversation in _conversations(bool(with_system)):
        if _render(encoder, conversation) != around.text(conversation):
            raise _refused(encoder, "what it puts around a message depends on more than the message's role")
    return around


def write_modelfile(gguf: Path, encoder: Encoder, config: Config) -> None:
    """Write the Modelfile beside a GGUF file."""
    (gguf.parent / "Modelfile").write_text(modelfile(gguf.name, encoder, config), encoding="utf-8")


def modelfile(gguf: str, encoder: Encoder, config: Config) -> str:
    """Return the Modelfile of a GGUF file; ExportError for what Ollama could not read from it."""
    template, settings = go_template(encoder), config.generate
    stops = [*encoder.tokenizer.convert_ids_to_tokens(sorted(encoder.stop_ids)), *settings.stop]
    parameters = {
        "temperature": settings.temperature,
        "top_k": settings.top_k,  # 0 is all tokens there too; left out, it would be 40
        "top_p": settings.top_p,
        "repeat_penalty": settings.repetition_penalty,
        "seed": settings.seed,
        "num_predict": settings.max_tokens,
        "num_ctx": min(encoder.max_tokens, 4096),
    }
    lines = [f"FROM ./{gguf}", f'TEMPLATE """{template}"""']
    lines += [f"PARAMETER stop {quoted(stop)}" for stop in stops]
    lines += [f"PARAMETER {name} {value}" for name, value in parameters.items()]
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """Put a text between quotes for a Modelfile, in which nothing can be escaped (Ollama's parser/parser.go).

    A value goes on over the ends of lines until it ends with the quotes that it began with, and characters that do not
    print are dropped, but for spaces, tabs and line feeds.
    """
    lost = [c for c in text if not (c.isprintable() or c in "\t\n\r")]
    if not text or lost or re.search(r'"""\s*[\n\r]', text):
        why = "it is empty" if not text else f"it drops {lost[0]!r}" if lost else "quotes at a line's end close it"
        raise ExportError(
            f"The stop string {text!r} cannot be written for Ollama: {why}.",
            "Use --to gguf, or take it out of generate.stop in the run's config.yaml.",
        )
    marks = '"""' if '"' in text else '"'
    return f"{marks}{text}{marks}"


def _go_string(text: str) -> str:
    """Write a text as a string of Go's, with the characters escaped that a Modelfile would lose."""
    written = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in written)


def _conversations(system: bool) -> list[list[Message]]:
    """Make conversations of one to five questions, with and without a system message."""
    made: list[list[Message]] = []
    for count in range(1, len(EXAMPLES) + 1):
        turns: list[Message] = []
        for number in range(count):
            turns += [Message("user", EXAMPLES[number]), Message("assistant", EXAMPLES[-1 - number])]
        made += [turns[:-1], [Message("system", EXAMPLES[count - 1]), *turns[:-1]]]
    return [turns for turns in made if system or turns[0].role != "system"]


def _split(encoder: Encoder, messages: Sequence[Message]) -> list[str] | None:
    """Render placeholders and give what stands around them; None where the template refuses the conversation."""
    try:
        return re.split("\ue0a0[a-z]+\ue0a1", _render(encoder, messages))
    except ModelError:
        return None


def _render(encoder: Encoder, messages: Sequence[Message]) -> str:
    pieces = encoder.template.render_pieces(messages, add_generation_prompt=True)
    return "".join(segment.text for piece in pieces for segment in piece)


def _refused(encoder: Encoder, reason: str) -> ExportError:
    return ExportError(
        f"The template '{encoder.template.name}' cannot be written as an Ollama template: {reason}.",
        "Use --to gguf, which carries the template as it is; or train with --template chatml.",
    )
