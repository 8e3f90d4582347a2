"""What an export is asked for, and all that can be refused before anything is written."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from transformers import PretrainedConfig

from heedful.encode.prompt_receipt import open_encoder
from heedful.encode.tokenise import Encoder
from heedful.errors import ExportError, UsageError, did_you_mean
from heedful.export.architectures import architecture_of
from heedful.export.gguf_file import FILE_TYPES
from heedful.export.modelfile import modelfile
from heedful.export.vocabulary import vocabulary_of
from heedful.model import pretrained
from heedful.run import EXPORT_RECEIPT, Run

FORMS = {"hf": ("bf16", "f16", "f32"), "gguf": ("f16", *FILE_TYPES), "ollama": ("f16", *FILE_TYPES)}  # default first
BITS = {"f32": 32, "f16": 16, "bf16": 16, "q8_0": 8.5, "q4_0": 4.5}  # of a weight, with its block's scale
OVERHEAD = 2**25  # bytes that an artefact has besides weights


@dataclass(frozen=True)
class Job:
    """A run's model, the form and precision to give it, and where to put it. `adapter`: without the base's weights."""

    run: Run
    form: str
    kind: str
    adapter: bool
    out: Path

    @property
    def name(self) -> str:
        return self.run.path.resolve().name

    @property
    def is_file(self) -> bool:
        return self.form == "gguf"

    @property
    def receipt(self) -> Path:
        """Where the receipt goes: into a folder, beside a file."""
        return self.out.with_name(f"{self.out.name}.receipt.json") if self.is_file else self.out / EXPORT_RECEIPT

    @cached_property
    def source(self) -> tuple[Encoder, PretrainedConfig]:
        """Open the run's tokenizer and settings; the prompt receipt is checked."""
        tokenizer, config, _ = pretrained.load_tokenizer(str(self.run.model))
        return open_encoder(self.run.model, tokenizer, pretrained.max_positions(config)), config


def plan(run: Run, form: str, kind: str | None, adapter: bool, out: Path | str | None, force: bool) -> Job:
    """Make the job, or say why it cannot be done."""
    if form not in FORMS:
        raise UsageError(
            f"--to {form} is not known.", f"{did_you_mean(form, FORMS)} It takes {', '.join(FORMS)}.".strip()
        )
    if adapter and form != "hf":
        raise UsageError("--adapter goes with --to hf only; GGUF files hold merged weights.")
    if adapter and kind not in (None, "f32"):
        raise UsageError(f"--adapter does not take --quantize {kind}: an adapter stays in f32.", "Leave it out.")
    kind = kind or ("f32" if adapter else FORMS[form][0])
    if kind not in FORMS[form]:
        known = ", ".join(dict.fromkeys(FORMS[form]))
        raise UsageError(f"--quantize {kind} is not known for {form}.", f"It takes {known}.")
    run.check_model()
    if adapter and not run.adapter.is_dir():
        raise UsageError(f"{run.path} holds no adapter: it was not trained with --method lora.", "Leave out --adapter.")
    place = run.exports / _file_name(run, form, kind, adapter) if out is None else _named(out)
    if form != "gguf" and place.is_symlink():
        place = place.resolve()  # what it leads to is replaced, and the link stays
    job = Job(run, form, kind, adapter, place)
    _check_place(job, force)
    if form != "hf":
        encoder, config = job.source
        architecture_of(config)
        vocabulary_of(encoder.tokenizer, config.vocab_size)
        if form == "ollama":
            modelfile(job.name, encoder, run.config())
    _check_space(job)
    return job


def _file_name(run: Run, form: str, kind: str, adapter: bool) -> str:
    name = f"{run.path.resolve().name}-{'adapter' if adapter else kind}"
    return {"hf": name, "gguf": f"{name}.gguf", "ollama": f"{name}-ollama"}[form]


def _named(out: Path | str) -> Path:
    """Return the place that --out means, under a name of its own: "." has none."""
    if not str(out):
        raise UsageError("--out is empty.", "Name a folder, or a file that ends in .gguf.")
    return Path(os.path.abspath(os.path.expanduser(out)))


def _check_place(job: Job, force: bool) -> None:
    """Refuse to overwrite without --force, and with it whatever is no export: what has no receipt."""
    out = job.out
    if job.is_file and out.suffix != ".gguf":
        raise UsageError(f"--out {out} should end in .gguf.")
    if not out.exists():
        return
    if not force:
        raise UsageError(f"{out} exists already.", "Replace it with --force, or choose another --out.")
    empty = not job.is_file and out.is_dir() and not any(out.iterdir())
    if out.is_dir() == job.is_file or not (empty or job.receipt.is_file()):
        raise UsageError(
            f"{out} has no receipt of an export, so --force does not replace it.", "Remove it, or choose another --out."
        )


def _check_space(job: Job) -> None:
    """Compare what the artefact will take with what is free where it goes."""
    weights = sum(file.stat().st_size for file in job.run.model.glob("*.safetensors")) / 4  # they lie there in fp32
    needed = int(weights * BITS[job.kind] / 8) + OVERHEAD
    if job.adapter:
        needed = sum(file.stat().st_size for file in job.run.adapter.iterdir()) + OVERHEAD
    there = next(folder for folder in (job.out.resolve(), *job.out.resolve().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise ExportError(
            f"{there} has {free / 2**20:,.0f} MiB free, but the export takes about {needed / 2**20:,.0f} MiB.",
            "Free some space, or choose another --out.",
        )
