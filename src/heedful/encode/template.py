"""A conversation as text, cut into segments that know whether they are learned.

Every template is a Jinja chat template, rendered in the tokenizer's sandbox and saved with the model, so that training,
chat and every server that reads the folder format alike. Supervision comes from rendering prefixes of the conversation
(`messages[:i]` with the generation prompt, then `messages[:i + 1]`), never from searching the text for markers.
Special tokens inside a message are plain text: they leave the renderer as literal segments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from heedful.encode.opaque import is_opaque
from heedful.encode.shape import MOST_MESSAGES, PLACE, Roles, Shape, placeholders, roles_of, shape_of
from heedful.errors import ModelError, reason_of
from heedful.records import Message, Segment

Name = Literal["alpaca", "chatml", "own"]

ALPACA_PREAMBLE = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)  # fmt: skip

# Stanford's Alpaca text with its one preamble; a system message takes the preamble's place.
ALPACA = (
    "{% if messages[0]['role'] == 'system' %}{{ BOS + messages[0]['content'] }}"
    "{% else %}{{ BOS + 'PREAMBLE' }}{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '\\n\\n### Instruction:\\n' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ '\\n\\n### Response:\\n' + message['content'] + eos_token }}"
    "{% elif message['role'] == 'tool' %}{{ '\\n\\n### Tool:\\n' + message['content'] }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n\\n### Response:\\n' }}{% endif %}"
).replace("PREAMBLE", ALPACA_PREAMBLE)

CHATML = (
    "{{ BOS }}{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
JOINTS: dict[str, str] = {"alpaca": "\n\n### Input:\n", "chatml": "\n\n", "own": "\n\n"}
CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")

SHAPE_CHECKS = 4  # conversations of each shape
MOST_SHAPES = 1000  # where nearly every conversation has a shape of its own, none of them pays
# A private-use character. While Jinja renders, HIDDEN + i stands for special token i where a message's text holds its
# name; HIDDEN itself comes before such a character that the text had of its own. Up to PLACE there is room for 90,000
# special tokens (models of speech have a token for each sound).
HIDDEN = 0xF8000
TODAY = "{% macro strftime_now(format) %}01 Jan 2025{% endmacro %}"  # a template that writes it prompts alike tomorrow
_OTHER = "Choose another with --set encode.template=alpaca (or chatml)."


@dataclass(frozen=True)
class Template:
    """A chat template bound to its tokenizer."""

    name: Name
    source: str
    joint: str  # what stands between an alpaca row's instruction and its input
    tokenizer: PreTrainedTokenizerBase
    special: tuple[str, ...]  # texts of the tokenizer's special tokens
    added: int = 0  # tokens that the tokenizer did not know before
    choice: str = ""  # of several templates, the one that was taken, as people are told

    @property
    def label(self) -> str:
        """What people are told: its name, and which it is where there were several."""
        return f"{self.name} ({self.choice})" if self.choice else self.name

    def segments(self, messages: Sequence[Message]) -> list[Segment]:
        """Cut a whole conversation into segments, up to the last answer's stop token."""
        return [segment for piece in self.pieces(messages) for segment in piece]

    def pieces(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> list[list[Segment]]:
        """Cut a conversation into prompt, answer, prompt, answer, ..., and the next prompt if asked for."""
        shape = None if add_generation_prompt else self.shape(messages)
        if shape is None:
            return self.render_pieces(messages, add_generation_prompt)
        filled = shape.fill([self._hide(message)["content"] for message in messages])
        return [list(self._reveal(text, supervised)) for text, supervised in filled]

    def render_pieces(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> list[list[Segment]]:
        """Cut a conversation by rendering its beginnings: `messages[:i]` with the generation prompt, then
        `messages[: i + 1]`; what the second has more is answer i."""
        hidden = [self._hide(message) for message in messages]
        pieces: list[tuple[str, bool]] = []
        done = ""
        for i, message in enumerate(messages):
            if message.role != "assistant":
                continue
            prompt = self._render(hidden[:i], generation_prompt=True)
            answered = self._render(hidden[: i + 1], generation_prompt=False)
            self._check_prefix(done, prompt)
            self._check_prefix(prompt, answered)
            end = self._stop_end(hidden[: i + 1], prompt, answered)
            pieces += [(prompt[len(done) :], False), (answered[len(prompt) : end], message.supervised is not False)]
            done = answered[:end]
        if add_generation_prompt:
            prompt = self._render(hidden, generation_prompt=True)
            self._check_prefix(done, prompt)
            pieces.append((prompt[len(done) :], False))
        return [list(self._reveal(text, supervised)) for text, supervised in pieces]

    def stop_token(self) -> str:
        """Return the special token that ends an answer."""
        ask, answer = Message("user", "question"), Message("assistant", "answer")
        text = self.segments([ask, answer])[-1].text
        return max((token for token in self.special if text.endswith(token)), key=len)

    def shape(self, messages: Sequence[Message]) -> Shape | None:
        """Return what all conversations of these roles have in common, or None where the template looks at the texts.

        The first conversations of each shape are rendered as well; a difference would end its use.
        """
        roles = roles_of(messages)
        if roles not in self._shapes and len(self._shapes) == MOST_SHAPES:
            return None
        shape, checks = self._shapes.get(roles) or (self._new_shape(messages), 0)
        if shape is not None and checks < SHAPE_CHECKS:
            filled = shape.fill([self._hide(message)["content"] for message in messages])
            checks += 1
            if [list(self._reveal(*piece)) for piece in filled] != self.render_pieces(messages):
                shape = None
        self._shapes[roles] = shape, checks
        return shape

    def plain_texts(self, messages: Sequence[Message]) -> list[str] | None:
        """Return the messages' texts, or None if one holds a special token's name."""
        texts = list(map(self._text, messages))
        firsts, pattern = self._not_plain
        for text in texts:
            if (not text.isascii() or any(map(text.__contains__, firsts))) and pattern.search(text):
                return None
        return texts

    @cached_property
    def _shapes(self) -> dict[Roles, tuple[Shape | None, int]]:
        return {}

    @cached_property
    def _opaque(self) -> bool:
        return is_opaque(self.source.removeprefix(TODAY))

    @cached_property
    def _not_plain(self) -> tuple[list[str], re.Pattern[str]]:
        """Return what finds a special token's name or stand-in, and the characters with which names begin."""
        pattern = "|".join([self._hidden, *map(re.escape, self.special)])
        return sorted({token[0] for token in self.special}), re.compile(pattern)

    @cached_property
    def _any_special(self) -> re.Pattern[str]:
        return re.compile("|".join(re.escape(token) for token in sorted(self.special, key=len, reverse=True)))

    @cached_property
    def _hidden(self) -> str:
        return f"[{chr(HIDDEN)}-{chr(HIDDEN + len(self.special))}]"

    def _new_shape(self, messages: Sequence[Message]) -> Shape | None:
        if not self._opaque or len(messages) > MOST_MESSAGES:
            return None
        return shape_of(self.render_pieces(placeholders(messages)))

    def _text(self, message: Message) -> str:
        """Return a message's text with its input, as the template gets it."""
        return message.content + self.joint + message.input if message.input else message.content

    def _hide(self, message: Message) -> dict[str, str]:
        content = self._text(message)
        if not content.isascii():
            content = re.sub(self._hidden, chr(HIDDEN) + r"\g<0>", content)
        for i, token in enumerate(self.special, 1):
            content = content.replace(token, chr(HIDDEN + i))
        return {"role": message.role, "content": content}

    def _reveal(self, text: str, supervised: bool) -> Iterator[Segment]:
        """Turn hidden characters back into the texts that they stand for, as literal segments."""
        for i, part in enumerate(re.split(f"({chr(HIDDEN)}?{self._hidden})", text)):
            if i % 2 and len(part) == 1:
                yield Segment(self.special[ord(part) - HIDDEN - 1], supervised, literal=True)
            elif part:
                yield Segment(part[-1] if i % 2 else part, supervised)

    def _render(self, messages: Sequence[dict[str, str]], generation_prompt: bool) -> str:
        try:
            text = self.tokenizer.apply_chat_template(
                list(messages),
                chat_template=self.source,
                tokenize=False,
                add_generation_prompt=generation_prompt,
            )
        except Exception as error:  # a template is a program, which may fail in any way
            problem = f"The template '{self.name}' refuses a conversation: {reason_of(error)}."
            raise ModelError(problem, _OTHER) from error
        return str(text)

    def _stop_end(self, messages: Sequence[dict[str, str]], prompt: str, answered: str) -> int:
        """Find where the last answer's stop token ends: the first special token behind the answer's text.

        A short text may stand in the answer's header, or in the token's name, too. Where the first and the last place
        at which it is found lead to different tokens, a placeholder tells what follows the text.
        """
        text, answer = messages[-1]["content"].strip(), answered[len(prompt) :]
        first, last = answer.find(text), answer.rfind(text)
        stop = self._special_end(answer, first + len(text))
        if first >= 0 and stop != self._special_end(answer, last + len(text)):
            tail = self._behind_text(messages, prompt)
            body = answer.removesuffix(tail)
            first = body.rfind(text) if answer == body + tail and body.rstrip().endswith(text) else -1
            stop = self._special_end(answer, len(body))
        if first < 0:
            raise ModelError(f"The template '{self.name}' changes or drops an answer's text.", _OTHER)
        if stop is None:
            raise ModelError(f"The template '{self.name}' ends an answer without a special token.", _OTHER)
        return len(prompt) + stop

    def _special_end(self, text: str, start: int) -> int | None:
        """Return where the first special token from `start` on ends."""
        found = self._any_special.search(text, start) if self.special else None
        return found.end() if found else None

    def _behind_text(self, messages: Sequence[dict[str, str]], prompt: str) -> str:
        """Return what the template writes behind the last answer's text."""
        marked = self._render([*messages[:-1], {**messages[-1], "content": chr(PLACE)}], generation_prompt=False)
        self._check_prefix(prompt, marked)
        return marked[len(prompt) :].partition(chr(PLACE))[2]

    def _check_prefix(self, prefix: str, text: str) -> None:
        if not text.startswith(prefix):
            raise ModelError(f"The template '{self.name}' rewrites earlier turns as a conversation grows.", _OTHER)


def choose_template(name: Literal["auto", "alpaca", "chatml", "own"], tokenizer: PreTrainedTokenizerBase) -> Template:
    """Bind a template to the tokenizer; `chatml` may add its two tokens to it (the model must then be resized)."""
    own, choice = _own(tokenizer) if name in ("auto", "own") else (None, "")
    if name == "own" and own is None:
        raise ModelError("encode.template=own, but the model's tokenizer has no chat template.", _OTHER)
    if name == "auto":
        name = "alpaca" if own is None else "own"
    missing: list[str] = []
    if name == "chatml":
        missing = [token for token in CHATML_TOKENS if token not in tokenizer.get_vocab()]
        tokenizer.add_special_tokens({"additional_special_tokens": missing}, replace_extra_special_tokens=False)
    source = {"alpaca": _with_bos(ALPACA, tokenizer), "chatml": _with_bos(CHATML, tokenizer), "own": own}[name]
    assert source is not None
    return Template(name, pinned(source), JOINTS[name], tokenizer, special_tokens(tokenizer), len(missing), choice)


def _own(tokenizer: PreTrainedTokenizerBase) -> tuple[str | None, str]:
    """Return the tokenizer's chat template, the default one where it has several, and a word on which it is."""
    found = tokenizer.chat_template
    if not isinstance(found, dict):
        return found, ""
    names = ", ".join(found)
    if "default" not in found:
        raise ModelError(f"Of the tokenizer's chat templates ({names}) none is called default.", _OTHER)
    return found["default"], f"the default of {names}"


def pinned(source: str) -> str:
    """Let a template that asks for the date write the same one every day, wherever it is rendered."""
    return TODAY + source if "strftime_now" in source and not source.startswith(TODAY) else source


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """List the texts that the tokenizer would read as control tokens."""
    added: dict[int, Any] = tokenizer.added_tokens_decoder
    return tuple(dict.fromkeys([str(token) for token in added.values() if token.special]))


def _with_bos(source: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Begin with the first-token marker where the tokenizer itself begins with it, and nowhere else."""
    begins = adds_bos(tokenizer)
    return source.replace("{{ BOS + ", "{{ bos_token + " if begins else "{{ ").replace(
        "{{ BOS }}", "{{ bos_token }}" if begins else ""
    )


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Say whether the tokenizer by itself begins a text with its first-token marker."""
    begins: bool = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    return begins
