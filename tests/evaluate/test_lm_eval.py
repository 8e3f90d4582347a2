"""EleutherAI's lm-eval takes a run's model/ folder as it is, chat template and all, and hears what heedful hears."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.export.runs import make_run
from tests.models import trained_tokenizer

from heedful import pipeline
from heedful.records import Sampling

QUESTIONS = ["Name a bird.", "What is two and two?", "Write a word."]
TASK = """\
task: three_questions
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: [], do_sample: false, max_gen_toks: 12}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """Write a task of our own: three questions in a file beside its description."""
    file = tmp_path / "task" / "questions.jsonl"
    file.parent.mkdir()
    rows = [json.dumps({"question": question, "answer": "owl"}) for question in QUESTIONS]
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    (file.parent / "three_questions.yaml").write_text(TASK.format(file=file), encoding="utf-8")
    return file.parent


@pytest.mark.timeout(600)
def test_a_runs_folder_is_answered_from_by_lm_eval(tmp_path: Path, task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lm_eval
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    run = make_run(tmp_path / "run", "llama", trained_tokenizer("smollm"))
    found: dict[str, Any] = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(run.model), "dtype": "float32"},
        tasks=["three_questions"],
        task_manager=TaskManager(include_path=str(task)),
        device="cpu",
        apply_chat_template=True,
        log_samples=True,
    )
    samples = sorted(found["samples"]["three_questions"], key=lambda sample: sample["doc_id"])
    engine = pipeline.load(run.path, settings=["generate.precision=fp32"])
    answers = engine.generate(QUESTIONS, Sampling(max_tokens=12))
    theirs = [sample["resps"][0][0] for sample in samples]
    assert [text.rstrip("\ufffd") for text in theirs] == [answer.text for answer in answers]  # no half characters here
