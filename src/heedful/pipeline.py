"""One function per verb: the table of contents of the program."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from heedful import data as data_stage
from heedful import machine
from heedful import model as models
from heedful.config import Config, changed, load_config
from heedful.encode.prepare import Prepared, prepare
from heedful.encode.receipt import FILE as PROMPT_RECEIPT
from heedful.encode.receipt import open_encoder, prompt_receipt
from heedful.encode.tokenise import Encoder
from heedful.errors import DataError, Interrupted, RunError, UsageError
from heedful.evaluate.score import Answers, answer, evaluation, question, responses
from heedful.export.artefact import Exported, carry_out
from heedful.export.job import plan
from heedful.export.reference import QUESTIONS
from heedful.generate.engine import Engine, Prompt
from heedful.records import Completion, Conversation, Message, Sampling, Watch
from heedful.report import screen
from heedful.report.plots import loss_plot
from heedful.run import Run, lock, make_directory, new_run, newest_run, open_run, provenance, write_json
from heedful.train.estimate import fit_to_memory
from heedful.train.memory import give_back_pages, keep_freed_pages
from heedful.train.precision import resolve
from heedful.train.session import Session, Surroundings

Settings = Mapping[str, Any] | Sequence[str]
WATCH = Watch(screen.say, screen.counting_bar)
MAY_CHANGE = {  # settings that a resumed run may be given anew: none of them touches what was learned so far
    "train.epochs", "train.max_steps", "train.log_every", "train.save_every", "evaluate.after_training",
    "evaluate.decides", "generate.batch_size", "generate.precision",
}  # fmt: skip


def check(
    data: str | None = None, *, model: str | None = None, recipe: str | None = None, settings: Settings = ()
) -> Prepared:
    """Read and encode a data set without training on it; `receipt` of the result accounts for every row."""
    config = configure(recipe, settings, data, model)
    splits, receipt = data_stage.load(config.data, WATCH)
    tokenizer, model_config, _ = models.load_tokenizer(config.model.name)
    return prepare(config, splits, receipt.as_dict(), tokenizer, models.max_positions(model_config), WATCH)


def train(
    data: str | None = None,
    *,
    model: str | None = None,
    recipe: str | None = None,
    settings: Settings = (),
    out: Path | str | None = None,
    resume: bool = False,
    budget: float | None = None,
) -> Run:
    """Turn a file of instructions and a pretrained model into a tuned one; give its run.

    With a `budget`, in seconds from here to the exported model, the run is shortened to what this machine can do.
    """
    started = time.perf_counter()
    config = configure(recipe, settings, data, model)
    run = newest_run(out) if resume else new_run(out, f"{config.model.name}-{Path(config.data.path).stem}")
    config = _continued(run, config, recipe, settings) if resume else config
    with _occupied(run, resume):
        run.write_config(config)
        splits, receipt = data_stage.load(config.data, WATCH)
        tokenizer, model_config, _ = models.load_tokenizer(config.model.name)
        ready = prepare(config, splits, receipt.as_dict(), tokenizer, models.max_positions(model_config), WATCH)
        try:
            config = fit_to_memory(config, model_config, ready, machine.free_memory())
        except RunError:
            if not resume:
                run.config_file.unlink()  # so that the folder is free for another attempt
            raise
        run.write_config(config)
        loaded = models.load(config.model.name, config.model.dropout)
        write_json(run.receipt_file, ready.receipt)
        session = Session(run, config, ready, loaded, surroundings(config, ready))
        facts = {"model": loaded.origin, "data": receipt.sha256, "fingerprint": session.fingerprint}
        write_json(run.provenance_file, provenance(**facts, changed=changed(config)))
        if resume:
            session.restore()
        elif budget is not None:
            session.pace.fit_into(budget, started)
        signal = session.fit()
        loss_plot(run.metrics(), run.loss_plot)
        if signal:
            raise Interrupted(signal)
        session.export({PROMPT_RECEIPT: prompt_receipt(ready.encoder)})
        del session, loaded
        give_back_pages()
        if config.evaluate.after_training and splits.test:
            evaluate_on(run, config, splits.test)
    return run


def evaluate(run: Run | Path | str, data: str | None = None, *, settings: Settings = ()) -> dict[str, Any]:
    """Answer the test rows, or all rows of `data`, with the base and the tuned model; score both."""
    run = run if isinstance(run, Run) else open_run(run)
    config = load_config(run.config_file, settings)
    if data is None:
        return evaluate_on(run, config, data_stage.load(config.data)[0].test)
    splits, _ = data_stage.load(config.data.model_copy(update={"path": data}))
    rows = (*splits.train, *splits.validation, *splits.test)
    return evaluate_on(run, config, sorted(rows, key=lambda row: row.place.row))


def evaluate_on(run: Run, config: Config, rows: Sequence[Conversation]) -> dict[str, Any]:
    """Evaluate base and tuned on these rows; write evaluation.json and responses.json."""
    tuned, trained = _open(run.path, config)
    answers = {"tuned": _answer("the tuned model", tuned, trained, rows, config)}
    loaded = models.load(config.model.name)
    positions = models.max_positions(loaded.model.config)
    own = open_encoder(None, loaded.tokenizer, positions)
    models.fit_vocabulary(loaded.model, trained.tokenizer)
    base = {"base": _answer("the base model", _engine(loaded.model, trained, "base", config), trained, rows, config)}
    if own.template.name == "own" and own.template.source != trained.tokenizer.chat_template:
        engine = _engine(loaded.model, own, "base", config)
        base["base_own_template"] = _answer("the base model in its own template", engine, own, rows, config)
    answers = base | answers
    scores = evaluation(answers, rows, config.evaluate.decides)
    write_json(run.responses_file, responses(answers, rows))
    write_json(run.evaluation_file, scores)
    return scores


def load(run_or_model: Run | Path | str, *, settings: Settings = ()) -> Engine:
    """Open a run or a model as an engine that answers."""
    path = run_or_model.path if isinstance(run_or_model, Run) else run_or_model
    return _open(path, load_config(None, settings))[0]


def generate(
    run_or_model: Run | Path | str | Engine, prompts: Sequence[Prompt], *, settings: Settings = ()
) -> list[Completion]:
    """Answer prompts, each a text or a list of messages."""
    config = load_config(None, settings)
    engine = run_or_model if isinstance(run_or_model, Engine) else load(run_or_model, settings=settings)
    return engine.generate(prompts, sampling_of(config), config.generate.batch_size)


def export(
    run: Run | Path | str,
    to: str = "hf",
    *,
    quantize: str | None = None,
    adapter: bool = False,
    out: Path | str | None = None,
    force: bool = False,
) -> Exported:
    """Write a run's model for other programs, once it is proven to be the same model; nothing is left if it is not."""
    run = run if isinstance(run, Run) else open_run(run)
    job = plan(run, to, quantize, adapter, out, force)
    return carry_out(job, _questions(run.config()), WATCH)


def _questions(config: Config) -> list[tuple[Message, ...]]:
    """Give some test rows' questions; those of the set that ships, where the run's data is not there any more."""
    try:
        splits, _ = data_stage.load(config.data)
    except (DataError, UsageError):
        splits, _ = data_stage.load(config.data.model_copy(update={"path": "builtin", "format": "auto", "columns": {}}))
    rows = next(part for part in (splits.test, splits.validation, splits.train) if part)
    return [question(row) for row in rows[: 10 * QUESTIONS]]


def configure(recipe: str | None, settings: Settings, data: str | None, model: str | None) -> Config:
    """Merge what was asked for: recipe < settings < the named data and model."""
    named = {leaf: value for leaf, value in (("data.path", data), ("model.name", model)) if value is not None}
    return load_config(recipe, settings, named)


def sampling_of(config: Config) -> Sampling:
    g = config.generate
    return Sampling(g.max_tokens, g.temperature, g.top_k, g.top_p, g.repetition_penalty, g.seed, tuple(g.stop))


def _open(run_or_model: Path | str, config: Config) -> tuple[Engine, Encoder]:
    """Load a run's or another model with the encoder that prompts it as in training."""
    loaded = models.load(str(run_or_model))
    folder = Path(loaded.origin) if Path(loaded.origin).is_dir() else None
    encoder = open_encoder(folder, loaded.tokenizer, models.max_positions(loaded.model.config))
    return _engine(loaded.model, encoder, Path(run_or_model).name, config), encoder


def _engine(model: PreTrainedModel, encoder: Encoder, name: str, config: Config) -> Engine:
    """Let a model answer; where the engine copied its weights, its own are narrowed to the same type."""
    bf16 = resolve(config.generate.precision, "generate.precision") == "bf16"
    dtype = torch.bfloat16 if bf16 else torch.float32
    keep_freed_pages()  # before the weights are copied: large pages are read faster
    engine = Engine(model, encoder, name, dtype)
    if engine.decoder is not None:
        model.to(dtype)
    return engine


def _answer(who: str, engine: Engine, encoder: Encoder, rows: Sequence[Conversation], config: Config) -> Answers:
    with screen.counting_bar(f"Answering {len(rows)} test rows with {who}", len(rows)) as on_done:
        return answer(engine, encoder, rows, sampling_of(config), config.generate.batch_size, on_done)


def surroundings(config: Config, ready: Prepared) -> Surroundings:
    """Let the session speak to the terminal, and show after each epoch how the first validation row is answered."""
    row = next(part[0] for part in (ready.splits.validation, ready.splits.test, ready.splits.train) if part)

    def sample(model: PreTrainedModel) -> tuple[str, str]:
        completion = Engine(model, ready.encoder).generate([question(row)], sampling_of(config))[0]
        return row.messages[-2].content, completion.text

    return Surroundings(screen.say, screen.training_bar, sample)


@contextmanager
def _occupied(run: Run, resume: bool) -> Iterator[None]:
    """Hold the run's directory, which must be new unless the run is resumed."""
    if run.config_file.exists() and not resume:
        raise UsageError(f"{run.path} already holds a run.", "Add --resume to continue it, or choose another --out.")
    make_directory(run)
    with lock(run):
        yield


def _continued(run: Run, asked: Config, recipe: str | None, settings: Settings) -> Config:
    """Give the interrupted run's settings with what may change changed; refuse the rest, each by name."""
    kept = run.config()
    before = kept.model_dump(mode="json")
    wanted = changed(asked)
    refused = [
        f"{leaf} was {before[leaf.split('.')[0]][leaf.split('.')[1]]}, now {value}"
        for leaf, value in wanted.items()
        if leaf not in MAY_CHANGE and before[leaf.split(".")[0]][leaf.split(".")[1]] != value
    ]
    if refused:
        raise UsageError(f"Cannot resume {run.path} with other settings: {'; '.join(refused)}.", "Start another run.")
    return load_config(run.config_file, {leaf: value for leaf, value in wanted.items() if leaf in MAY_CHANGE})
