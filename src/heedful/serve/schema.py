"""What may stand in a request's body: every field has a meaning here, is harmless, or is refused by name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from heedful.data.turns import joined
from heedful.errors import did_you_mean
from heedful.records import LEAST_PENALTY, Message
from heedful.serve.problems import refused

TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
BIASES = 300  # entries of `logit_bias`: each costs something at each token
StopText = Annotated[str, Field(min_length=1, max_length=256)]
# Who asks, what for, where it is kept, how it is billed: nothing that touches an answer.
HARMLESS = {"user", "metadata", "store", "service_tier", "safety_identifier", "prediction", "parallel_tool_calls"}
HARMLESS |= {"prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "moderation"}
NEUTRAL: dict[str, tuple[Any, ...]] = {  # fields that are refused unless they ask for nothing
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "chat_template_kwargs": ({},),
    "audio": (),
    "web_search_options": (),
    "echo": (False,),
    "suffix": ("",),
    "best_of": (1,),
    "chat_template": (),
}


class Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", json_schema_extra={"additionalProperties": True})

    @model_validator(mode="after")
    def _know_every_field(self) -> Body:
        for name, value in (self.model_extra or {}).items():
            if name in HARMLESS or value is None or any(value == neutral for neutral in NEUTRAL.get(name, ())):
                continue
            if name in NEUTRAL:
                raise _Refused(f"'{name}' is not supported here.", name, "unsupported_parameter")
            hint = did_you_mean(name, type(self).model_fields)
            raise _Refused(f"There is no parameter '{name}'. {hint}".strip(), name, "unknown_parameter")
        return self


class _Refused(ValueError):
    """A ValueError, as pydantic wants it, around a Problem."""

    def __init__(self, message: str, param: str, code: str) -> None:
        super().__init__(message)
        self.problem = refused(message, param, code)


class StreamOptions(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # accepted: there is none


class Asking(Body):
    """What chat and plain completions have in common."""

    model: str | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None  # 0: the likeliest token alone
    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(ge=LEAST_PENALTY, le=10)] | None = None
    logit_bias: Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=BIASES)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class Part(BaseModel):
    """A part of a message's content."""

    model_config = ConfigDict(strict=True, extra="forbid")
    type: Literal["text"]
    text: str
    cache_control: Any = None  # accepted: what was read before is found again without being told
    annotations: Any = None


class Turn(BaseModel):
    """A message of a conversation. Clients send answers back with what came with them; of that only the text counts."""

    model_config = ConfigDict(strict=True, extra="forbid")
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None  # None: an answer of which nothing is said but a refusal
    tool_calls: Annotated[list[Any], Field(max_length=0)] | None = None
    function_call: None = None
    audio: None = None
    name: Any = None  # and from here on: accepted, no template shows it
    id: Any = None
    refusal: Any = None
    annotations: Any = None
    reasoning: Any = None
    reasoning_content: Any = None
    tool_call_id: Any = None
    cache_control: Any = None

    @field_validator("content")
    @classmethod
    def _is_said(cls, content: str | list[Part] | None, turn: ValidationInfo) -> str | list[Part] | None:
        if content is None and turn.data.get("role") != "assistant":
            raise PydanticCustomError("null", "Only an assistant's content may be null")
        return content

    def message(self) -> Message:
        """Return it as the templates know it: a developer's word is the system's, parts are one text."""
        said = self.content or ""
        text = said if isinstance(said, str) else joined(part.text for part in said)
        return Message("system" if self.role == "developer" else self.role, text)


class ChatRequest(Asking):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[list[Turn], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None


class CompletionRequest(Asking):
    """The body of POST /v1/completions: texts, or lists of token ids, that are continued without a template."""

    prompt: str | list[str] | list[TokenId] | list[list[TokenId]]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None


class TokenizeRequest(Body):
    """The body of POST /tokenize: a text, or messages as the model would see them."""

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[Turn], Field(min_length=1)] | None = None
    add_special_tokens: bool = False
