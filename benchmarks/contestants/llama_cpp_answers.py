"""llama.cpp by way of node-llama-cpp: the same weights as a GGUF file (`kind`), one prompt after another."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from benchmarks.answering import apart, longest, prompts, stop_ids
from benchmarks.child import Missing, Task, run


def answer(task: Task) -> dict[str, Any]:
    from heedful.export import llama_cpp

    os.environ["HEEDFUL_LLAMA_CPP"] = str(task.scratch)  # where `make bench-peers` puts it
    if lacking := llama_cpp.missing():
        raise Missing(f"{lacking}: make bench-peers")
    wanted = prompts(task)
    said = llama_cpp.ask(_weights(task), [], list(wanted.values()), longest(task), stop_ids(task))
    return apart(said.seconds, dict(zip(wanted, said.answers, strict=True))) | {"peak_mib": said.peak_mib}


def _weights(task: Task) -> Path:
    """Write the workload's model as a GGUF file, if it is not there yet."""
    from heedful.config import EncodeConfig
    from heedful.encode.tokenise import build_encoder
    from heedful.errors import ExportError
    from heedful.export.gguf_file import write_gguf
    from heedful.model import pretrained

    folder, kind = Path(task.workload.model), task.settings["kind"]
    file = folder.with_name(f"{folder.parent.name}-{folder.name}-{kind}.gguf")
    if not file.is_file():
        tokenizer, config, _ = pretrained.load_tokenizer(str(folder))
        encoder = build_encoder(EncodeConfig(), tokenizer, pretrained.max_positions(config))
        partial = file.with_suffix(".partial")
        try:
            write_gguf(partial, folder, config, encoder, kind, "bench")
        except ExportError as error:
            raise Missing(str(error)) from error
        partial.replace(file)
    return file


if __name__ == "__main__":
    run(answer)
