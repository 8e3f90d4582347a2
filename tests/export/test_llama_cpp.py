"""What llama.cpp fails to say is one sentence; a stand-in for node sleeps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from heedful.errors import ExportError
from heedful.export import llama_cpp, verify


@pytest.mark.parametrize("threads", ["1", "4,2"])
def test_a_silent_llama_cpp_is_not_waited_for_forever(
    threads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = tmp_path / "node"
    node.write_text("#!/bin/sh\nexec sleep 60\n")
    node.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setattr(llama_cpp, "PATIENCE", 0.1)
    with pytest.raises(ExportError, match=r"did not finish with a\.gguf"):
        llama_cpp.ask(tmp_path / "a.gguf", [], [], 1, [])


def test_what_is_not_checked_without_it_is_named_whole() -> None:
    ((_, said),) = verify.told({"llama_cpp": {"checked": False, "reason": "node is not installed"}})
    assert said == "not asked, so header (head size, rope, eps) and tokenizer are not checked: node is not installed"
