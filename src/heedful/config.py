"""The typed tree of settings, every leaf with its default and described under it. All intervals are in steps.

A section is named for the folder that reads it; `run` is read by report/track.py.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic_core import PydanticCustomError

from heedful.records import COLDEST, Sampling

ROWS_AN_UPDATE = 8  # the default, and what `auto` means
ANSWERS_AT_ONCE = 128  # more are hardly faster, and reading new prompts in groups keeps a batch full
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # what every generator of numbers takes
# Below COLDEST nothing but the likeliest token has a chance.
Temperature = Annotated[float, AfterValidator(lambda asked: asked if asked >= COLDEST else 0.0)]
PACKED = {"quantize": "nf4", "optimizer": "adamw_8bit"}  # what holds several numbers in one


class Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, validate_default=True
    )

    @field_validator("*", mode="wrap")
    @classmethod
    def _no_number_is_true(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        """Refuse true and false where a number stands, which would be 1 and 0."""
        taken = handler(value)
        if isinstance(value, bool) and not isinstance(taken, bool):
            raise PydanticCustomError("number", "Input should be a number, neither true nor false")
        return taken


class ModelConfig(Section):
    name: str = "smollm2-135m"
    """A catalogue name, a folder, a .gguf file or a Hugging Face id."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of every layer that has one."""


class DataConfig(Section):
    path: str = "builtin"
    """A file, a folder, a URL, a Hugging Face data set id, `builtin` or `builtin:zh`."""
    format: Literal["auto", "alpaca", "messages", "sharegpt", "prompt_completion", "question_answer", "dolly"] = "auto"
    """How a row becomes a conversation; auto looks at the first rows."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Other names for the format's fields, as in {instruction: question}."""
    on_bad_row: Literal["error", "skip"] = "error"
    """Stop at the first unusable row, or skip and count it (at most 5 % of the rows)."""
    split: Literal["leak_aware", "in_order"] = "leak_aware"
    """Shuffled with near-duplicates kept together; or in the file's order, cut into train, test and validation."""
    test_share: float = Field(0.10, ge=0, lt=1)
    """Share of the rows held back for the final scores."""
    validation_share: float = Field(0.05, ge=0, lt=1)
    """Share of the rows held back for the validation loss."""
    seed: Seed = 123
    """Decides which rows the leak-aware split holds back."""


class EncodeConfig(Section):
    template: Literal["auto", "alpaca", "chatml", "own"] = "auto"
    """The prompt's format; auto is the tokenizer's own, or alpaca where it has none."""
    supervise: Literal["response", "all"] = "response"
    """Which tokens are learned; those of an answer of weight 0 never are."""
    prompt_weight: float = Field(0.0, ge=0, le=1)
    """Under `response`: what a prompt token counts in the loss, where an answer's token counts 1."""
    max_tokens: int | None = Field(None, ge=8)
    """Longest example in tokens; the model's own limit if not set, and never more than that."""
    long_rows: Literal["truncate", "drop", "error"] = "truncate"
    """What happens to a longer row; truncation cuts the prompt first and keeps the stop token. One that is only
    answered is always cut."""
    layout: Literal["tree", "padded"] = "tree"
    """How a batch is laid out: every shared beginning once, or one padded row per example."""
    batch_tokens: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Most tokens in one forward; a shared beginning counts once, padding counts. A larger update is split, with the
    same result. auto: as many as memory allows."""


class TrainConfig(Section):
    method: Literal["full", "lora"] = "full"
    """Train every weight, or low-rank adapters beside them."""
    epochs: int = Field(2, ge=1)
    """Passes over the training rows."""
    max_steps: int | None = Field(None, ge=1)
    """Stop after this many updates."""
    batch_size: Annotated[int, BeforeValidator(lambda rows: ROWS_AN_UPDATE if rows == "auto" else rows)] = Field(
        ROWS_AN_UPDATE, ge=1
    )
    """Rows per update. Where memory is short, an update takes more forwards (encode.batch_tokens), not fewer rows."""
    group_by_beginning: bool = True
    """Let rows with a long beginning in common (128 tokens, and a good part of the row) meet in an update, as a tree
    computes it once."""
    drop_last: bool = False
    """Leave out an epoch's last rows if they do not fill an update."""
    lr: float | None = Field(None, gt=0)
    """Peak learning rate; 1e-4 for full and 1e-3 for lora if not set."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """What the learning rate does after the warm-up: fall to zero, or stay (constant)."""
    warmup: float = Field(0.05, ge=0, lt=1)
    """Share of all steps over which the learning rate rises."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's decay of the matrices; vectors (norms, biases) are never decayed unless decay_vectors."""
    decay_vectors: bool = False
    """Decay norms and biases too, as a plain AdamW over all parameters does."""
    clip: float | None = Field(1.0, gt=0)
    """Largest norm of the gradient; null switches it off."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """What matrices are multiplied in; auto is bf16 where this machine does that faster. Masters are fp32."""
    sharding: Literal["none", "full"] = "none"
    """Under torchrun: whole weights and optimizer on every rank, or a share of them (FSDP2)."""
    quantize: Literal["none", "nf4"] = "none"
    """nf4 keeps the frozen weights under adapters in 4 bits (QLoRA); it needs an NVIDIA GPU and bitsandbytes."""
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    """adamw_8bit keeps AdamW's two moments in 8 bits; it needs an NVIDIA GPU and bitsandbytes."""
    activation_checkpointing: bool = False
    """Compute each layer again in the backward pass instead of keeping what it computed: less memory, slower."""
    log_every: int = Field(1, ge=1)
    """Steps between lines of metrics.jsonl."""
    evaluate_every: int | None = Field(None, ge=1)
    """Steps between validations; a quarter of the run if not set."""
    evaluate_batches: int | None = Field(None, ge=1)
    """Validate on so many updates' worth of validation rows, and as many training rows; if not set, on all validation
    rows."""
    save_every: int = Field(100, ge=1)
    """Steps between checkpoints."""
    patience: int | None = Field(None, ge=1)
    """Stop after this many validations in a row without a new best."""
    keep: Literal["best", "last"] = "best"
    """Which weights become the run's model: those of the lowest validation loss that training reached, or the last."""
    seed: Seed = 123
    """Decides the order of the rows, the adapters' first weights and dropout."""
    lora_rank: int = Field(16, ge=1)
    """Rank of the adapters, on every linear layer but the head and routers, and on each expert's matrices."""
    lora_alpha: float = Field(32, gt=0)
    """Scale of the adapters: alpha / rank."""

    @property
    def peak_lr(self) -> float:
        """The learning rate that is set, or else the method's."""
        return self.lr or {"full": 1e-4, "lora": 1e-3}[self.method]


class GenerateConfig(Section):
    max_tokens: int = Field(256, ge=1)
    """Longest answer in tokens."""
    temperature: Temperature = Field(0.0, ge=0, le=5)
    """0 takes the likeliest token each time."""
    top_k: int = Field(0, ge=0)
    """Sample among this many tokens; 0 is all."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Sample among the likeliest tokens that together reach this probability."""
    repetition_penalty: float = Field(1.0, ge=1, le=5)
    """Make tokens of the prompt and the answer so far less likely: a positive logit is divided by this, a negative one
    multiplied."""
    seed: Seed = 0
    """Decides what is sampled."""
    stop: list[str] = Field(default_factory=list)
    """Texts that end an answer, besides the stop token."""
    batch_size: int = Field(ANSWERS_AT_ONCE, ge=1)
    """Answers decoded together."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """What the weights are multiplied in; auto is bf16 where this machine does that faster."""

    def sampling(self) -> Sampling:
        """Return the settings by which tokens are chosen."""
        return Sampling(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
            stop=tuple(self.stop),
        )


# The settings of `generate` that decide an answer's tokens; the others decide how fast they come.
SAMPLING = tuple(field.name for field in fields(Sampling) if field.name in GenerateConfig.model_fields)


class EvaluateConfig(Section):
    after_training: bool = True
    """Answer the test rows with the base and the tuned model when training ends."""
    decides: Literal["nll", "exact_match", "token_f1", "rouge_l", "chrf"] = "rouge_l"
    """The one score that the verdict rests on, chosen before."""


class RunConfig(Section):
    track: Literal["tensorboard", "trackio", "mlflow", "wandb"] | None = None
    """Send the numbers of metrics.jsonl to this tracker as well; nothing is sent anywhere if not set."""


class Config(Section):
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    encode: EncodeConfig = EncodeConfig()
    train: TrainConfig = TrainConfig()
    generate: GenerateConfig = GenerateConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    run: RunConfig = RunConfig()
