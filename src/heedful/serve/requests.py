"""A request's body -> rows of the engine: its model, its prompt's tokens, its sampling. What cannot be is refused."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

from heedful.errors import HeedfulError
from heedful.generate.engine import Engine
from heedful.generate.row import Row
from heedful.model.vocabulary import vocabulary_size
from heedful.records import COLDEST, Sampling
from heedful.serve.limits import Limits
from heedful.serve.problems import Problem, refused
from heedful.serve.schema import Asking, ChatRequest, CompletionRequest, TokenizeRequest

OTHERWISE = ("max_tokens", "stop", "logit_bias", "logprobs")  # what a Sampling holds in another form than a request
SAME_NAMES = tuple(field.name for field in fields(Sampling) if field.name not in OTHERWISE)


@dataclass(frozen=True)
class Generation:
    """What a request asks for: `n` answers to each of some prompts, the answers to the first prompt first."""

    model: str
    rows: list[Row]
    prompt_tokens: int  # each prompt counted once
    usage: bool  # whether a stream ends with the count of tokens


class RequestReader:
    """Reads requests. Prompts are tokenised one after the other, away from the event loop."""

    def __init__(self, models: Mapping[str, Engine], limits: Limits, defaults: Sampling) -> None:
        self.models = models
        self.limits = limits
        self.defaults = defaults
        self._tokenizer_thread = ThreadPoolExecutor(1, "tokenise")

    async def chat(self, body: ChatRequest) -> Generation:
        """Read a conversation to be continued."""
        model, engine = self.find(body.model)
        if len(body.messages) > self.limits.messages:
            most = f"More than {self.limits.messages} messages."
            raise refused(most, "messages", "context_length_exceeded")  # so that clients leave out the oldest turns
        if body.top_logprobs is not None and not body.logprobs:
            raise refused("'top_logprobs' needs 'logprobs': true.", "top_logprobs")
        wanted = {body.max_tokens, body.max_completion_tokens} - {None}
        if len(wanted) > 1:
            raise refused("'max_tokens' and 'max_completion_tokens' are the same limit and differ.", "max_tokens")
        alternatives = (body.top_logprobs or 0) if body.logprobs else None
        sampling = self._sampling(body, engine, alternatives)
        messages = [turn.message() for turn in body.messages]
        ids = await self._tokenise("messages", lambda: engine.prompter.prompt_ids(messages))
        return self._generation(body, model, [ids], sampling, next(iter(wanted), None))

    async def completion(self, body: CompletionRequest) -> Generation:
        """Read texts, or lists of tokens, to be continued as they stand."""
        model, engine = self.find(body.model)
        prompts = _prompts(body.prompt)
        if not 1 <= len(prompts) <= self.limits.choices:
            raise refused(f"From 1 to {self.limits.choices} prompts, not {len(prompts)}.", "prompt")
        sampling = self._sampling(body, engine, body.logprobs)
        vocabulary = vocabulary_size(engine.model)
        tokenised = []
        for prompt in prompts:
            if isinstance(prompt, str):
                ids = await self._tokenise("prompt", partial(plain_ids, engine, prompt, True))
            else:
                ids = prompt
            if max(ids, default=0) >= vocabulary:  # a text may name a special token that has no embedding
                raise refused(f"The model has no token {max(ids)}: its ids end at {vocabulary - 1}.", "prompt")
            tokenised.append(ids)
        return self._generation(body, model, tokenised, sampling, body.max_tokens)

    async def tokens(self, body: TokenizeRequest) -> tuple[Engine, list[int]]:
        """Read a text or messages, and give their tokens."""
        _, engine = self.find(body.model)
        if (body.prompt is None) == (body.messages is None):
            raise refused("Give either 'prompt' or 'messages'.", "prompt")
        if body.prompt is not None:
            text, special = body.prompt, body.add_special_tokens
            return engine, await self._tokenise("prompt", lambda: plain_ids(engine, text, special))
        messages = [turn.message() for turn in body.messages or ()]
        return engine, await self._tokenise("messages", lambda: engine.prompter.prompt_ids(messages))

    def find(self, name: str | None) -> tuple[str, Engine]:
        """Return the model of this name; the first one if none is named."""
        name = next(iter(self.models)) if name is None else name
        if name not in self.models:
            known = ", ".join(self.models)
            raise Problem(404, f"There is no model '{name}' here, only {known}.", "model", "model_not_found")
        return name, self.models[name]

    async def _tokenise(self, param: str, work: Callable[[], Sequence[int]]) -> list[int]:
        try:
            return list(await asyncio.get_running_loop().run_in_executor(self._tokenizer_thread, work))
        except HeedfulError as error:  # a template refuses some conversations
            raise refused(error.problem, param) from error
        except (UnicodeError, TypeError) as error:  # half a character
            raise refused(f"{param}: this text is not Unicode.", param) from error

    def _sampling(self, body: Asking, engine: Engine, alternatives: int | None) -> Sampling:
        """Put what the request says over the defaults."""
        asked = {name: value for name in SAME_NAMES if (value := getattr(body, name)) is not None}
        if body.top_k is not None:
            asked["top_k"] = max(0, body.top_k)  # below 0 is all, for some clients
        if body.top_p == 0:
            asked |= {"top_p": 1.0, "temperature": 0.0}  # of the likeliest token alone there is nothing to draw
        if body.stop is not None:  # an empty list leaves nothing open
            asked["stop"] = body.stops
        if asked.get("temperature", 1) < COLDEST:
            asked["temperature"] = 0.0
        sampling = replace(self.defaults, **asked, logprobs=alternatives, logit_bias=_bias(body, engine))
        if sampling.temperature and body.seed is None:
            sampling = replace(sampling, seed=secrets.randbits(62))
        if (body.n or 1) > self.limits.choices:
            raise refused(f"At most {self.limits.choices} choices, not {body.n}.", "n")
        if (body.n or 1) > 1 and sampling.temperature == 0:
            raise refused("All choices would be the same: 'n' needs a temperature and a top_p above 0.", "n")
        if body.stream_options is not None and not body.stream:
            raise refused("'stream_options' needs 'stream': true.", "stream_options")
        return sampling

    def _generation(
        self, body: Asking, model: str, prompts: Sequence[list[int]], sampling: Sampling, limit: int | None
    ) -> Generation:
        """Make the rows; a prompt that leaves no room for the answer asked for is refused with both numbers."""
        engine, n = self.models[model], body.n or 1
        rows: list[Row] = []
        for ids in prompts:
            room = engine.positions - len(ids)
            if not ids:
                raise refused("The prompt is empty.", "prompt")
            if (limit or 1) > room:
                raise refused(
                    f"This model's context is {engine.positions} tokens, but the prompt has {len(ids)} and "
                    f"{limit or 1} more are asked for.",
                    "messages" if isinstance(body, ChatRequest) else "prompt",
                    "context_length_exceeded",
                )
            for _ in range(n):
                most = limit or min(room, self.limits.answer_tokens)
                own = replace(sampling, max_tokens=most, seed=sampling.seed + len(rows))
                rows.append(engine.continuing(len(rows), list(ids), own))
        usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        return Generation(model, rows, sum(map(len, prompts)), usage)


def plain_ids(engine: Engine, text: str, special: bool) -> list[int]:
    """Tokenise a text as it stands, markers and all."""
    return list(engine.prompter.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])


def _prompts(prompt: str | list[Any]) -> list[str | list[int]]:
    """List the prompts: a text, texts, tokens, or lists of tokens."""
    return [prompt] if isinstance(prompt, str) or (prompt and isinstance(prompt[0], int)) else list(prompt)


def _bias(body: Asking, engine: Engine) -> tuple[tuple[int, float], ...]:
    size = vocabulary_size(engine.model)
    for key in body.logit_bias or ():
        if not (key.isascii() and key.isdecimal() and len(key) < 10 and int(key) < size):
            raise refused(f"logit_bias: '{key[:20]}' is not a token id from 0 to {size - 1}.", "logit_bias")
    return tuple((int(key), value) for key, value in (body.logit_bias or {}).items())
