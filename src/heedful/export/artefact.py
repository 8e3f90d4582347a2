"""Run -> artefact: written beside its place, held against the run, and only then put there, whole."""

from __future__ import annotations

import glob
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import heedful
from heedful.engines import base_of
from heedful.errors import ExportError, HeedfulError
from heedful.export import verify
from heedful.export.folder import write_adapter, write_folder
from heedful.export.gguf_file import write_gguf
from heedful.export.job import Job
from heedful.export.modelfile import write_modelfile
from heedful.export.reference import Reference, refer
from heedful.records import Conversation
from heedful.report.card import adapter_base
from heedful.reporter import Reporter
from heedful.run import EXPORT_RECEIPT
from heedful.system.atomic import (
    advice,
    beside,
    list_files,
    remove_leftovers,
    replace_directory,
    sync_directory,
    sync_files,
    write_json,
)
from heedful.system.heap import give_back_pages


@dataclass(frozen=True)
class Exported:
    """What was made: where it lies, and the receipt that says how it was held against the run."""

    path: Path
    receipt: dict[str, Any]


def carry_out(job: Job, parts: Sequence[Sequence[Conversation]], reporter: Reporter) -> Exported:
    """Write, verify, publish. Whatever happens, the place holds the old artefact, the new one, or nothing."""
    started = time.perf_counter()
    with _workplace(job.out) as work:
        reporter.say("Answering questions with the run's own model")
        reference = _refer(job, parts)
        checked = _adapter(job, reference, reporter)
        content = work / job.out.name
        reporter.say(f"Writing {job.out.name}")
        _write(job, content)
        reporter.say("Reading it back and comparing")
        checked |= _verify(job, reference, content)
        receipt = {
            "format": 1,
            "heedful": heedful.__version__,
            "run": job.name,
            "form": "adapter" if job.adapter else job.form,
            "precision": job.kind,
            **checked,
            "files": list_files(content),
            "seconds": round(time.perf_counter() - started, 1),
        }
        _publish(job, content, receipt)
    return Exported(job.out, receipt)


def _refer(job: Job, parts: Sequence[Sequence[Conversation]]) -> Reference:
    """Let the run's model answer in fp32; its weights are given back."""
    encoder, _ = job.source
    reference = refer(job.run.model, encoder, parts)
    give_back_pages()
    return reference


def _adapter(job: Job, reference: Reference, reporter: Reporter) -> verify.Receipt:
    """Compare the run's adapters, beside their base, with its merged weights; {} for a run without adapters."""
    if not job.run.adapter.is_dir() or job.adapter:  # an exported adapter is checked as it was written
        return {}
    try:
        base = base_of(job.run).model
    except HeedfulError as error:
        reporter.say(f"The adapter is not compared with the merged weights: {error.problem}")
        return {"adapter": {"checked": False, "reason": error.problem}}
    receipt = verify.merged_as_adapter(reference, base, job.run.adapter)
    del base
    give_back_pages()
    return receipt


def _write(job: Job, content: Path) -> None:
    encoder, config = job.source
    if job.adapter:
        write_adapter(job.run, encoder, content)
    elif job.form == "hf":
        write_folder(job.run.model, encoder, job.kind, content)
    else:
        file = content if job.is_file else content / f"{job.name}-{job.kind}.gguf"
        file.parent.mkdir(exist_ok=True)
        write_gguf(file, job.run.model, config, encoder, job.kind, job.name)
        if job.form == "ollama":
            write_modelfile(file, encoder, job.run.config())
    give_back_pages()


def _verify(job: Job, reference: Reference, content: Path) -> verify.Receipt:
    encoder, config = job.source
    if job.adapter:
        receipt = verify.merged_as_adapter(reference, base_of(job.run).model, content)
        return {"base": adapter_base(job.run), **receipt, **verify.prompts(reference, verify.reopened(content))}
    if job.form == "hf":
        return verify.folder(reference, content, job.kind)
    file = content if job.is_file else next(content.glob("*.gguf"))
    receipt = verify.gguf_by_transformers(reference, file, config, job.kind)
    give_back_pages()
    return {**receipt, **verify.gguf_by_llama_cpp(reference, file, encoder, job.kind)}


def _publish(job: Job, content: Path, receipt: dict[str, Any]) -> None:
    """Put what is verified in its place. A file's old receipt goes first: it must never stand beside another file.

    All is written before, so that hardly a moment is left in which a kill leaves a file without its receipt.
    """
    sync_files(content)
    if job.is_file:
        written = content.with_name(job.receipt.name)
        write_json(written, receipt)
        job.receipt.unlink(missing_ok=True)
        os.replace(content, job.out)
        os.replace(written, job.receipt)
        sync_directory(job.out.parent)
    else:
        write_json(content / EXPORT_RECEIPT, receipt)
        replace_directory(content, job.out)


@contextmanager
def _workplace(out: Path) -> Iterator[Path]:
    """Make a folder to write in beside `out`, and remove it in the end; what killed exports left there goes first."""
    work = beside(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(out.parent, glob.escape(out.name))
        work.mkdir()
        yield work
    except OSError as error:
        problem = f"Cannot write {out}: {error.strerror or error}."
        raise ExportError(problem, advice(error, "choose another --out")) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
