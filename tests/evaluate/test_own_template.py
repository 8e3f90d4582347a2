"""A base model that has a chat template of its own, tuned with another: it answers in both, and both are scored."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import make_rows
from tests.evaluate.fake_judge import serving
from tests.models import byte_tokenizer, tiny_model

from heedful import pipeline
from heedful.begin import configure
from heedful.config import EncodeConfig
from heedful.encode.tokenise import build_encoder
from heedful.engines import base_of, engine_of
from heedful.evaluate.endpoint import Endpoint
from heedful.report import screen, tables
from heedful.report.console import Screen
from heedful.report.labels import label
from heedful.run import Run
from heedful.system.atomic import read_json, write_json

OWN = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QUICK = {
    "train.epochs": 1, "encode.template": "alpaca", "generate.max_tokens": 6, "train.precision": "fp32",
    "generate.precision": "fp32",
}  # fmt: skip


REFUSING = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + OWN
UNENDING = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("own")
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = OWN
    for part in (tiny_model("llama", max_position_embeddings=1024, initializer_range=0.05), tokenizer):
        part.save_pretrained(folder / "base")
    write_json(folder / "rows.json", make_rows(60))
    return pipeline.train(str(folder / "rows.json"), model=str(folder / "base"), settings=QUICK, out=folder / "run")


def test_a_base_model_is_asked_in_its_own_template_too(run: Run) -> None:
    found, answers = read_json(run.evaluation_file), read_json(run.responses_file)
    assert [*found["models"]] == ["base", "base_own_template", "tuned"]
    assert [*found["forgetting"]["models"]] == [*found["models"]]
    base = base_of(run)
    own = build_encoder(EncodeConfig(), base.tokenizer, 1024)
    assert own.template.source == OWN
    config = configure(None, QUICK, None, None)
    questions = [row["instruction"] + ("\n\n" + row["input"]) * bool(row["input"]) for row in answers]
    expected = engine_of(base.model, own, "base", config).generate(questions, config.generate.sampling())
    assert [row["base_own_template_response"] for row in answers] == [answer.text for answer in expected]
    assert [row["base_response"] for row in answers] != [answer.text for answer in expected]
    nll = [found["models"][name]["nll"]["value"] for name in found["models"]]
    assert len(set(nll)) == 3


def test_the_page_keeps_a_score_that_one_of_the_models_lacks(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A judge compares base and tuned alone, however many models there are."""
    with serving() as judge:
        found = pipeline.evaluate(run, judge=Endpoint(judge.url, "grader"), judge_by="both")
    assert {name: "judge_wins" in scores for name, scores in found["judge"]["models"].items()} == {
        "base": True, "base_own_template": False, "tuned": True,
    }  # fmt: skip
    page = run.report_file.read_text(encoding="utf-8")
    assert label("judge_wins") in page
    monkeypatch.setattr(screen, "out", Screen(width=160))
    tables.show_evaluation(found)
    assert label("judge_wins") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("own", "told"),
    [(REFUSING, "6 refused by the template (the first: "), (UNENDING, "The template 'own' ends an answer without")],
)
def test_a_template_of_its_own_that_does_not_take_the_rows_costs_that_column_alone(
    own: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = own
    for part in (tiny_model("llama", max_position_embeddings=1024), tokenizer):
        part.save_pretrained(tmp_path / "base")
    turns = [[{"role": "system", "content": "Be kind."}, *messages_of(row)] for row in make_rows(60)]
    write_json(tmp_path / "rows.json", [{"messages": messages} for messages in turns])
    settings = {**QUICK, "train.max_steps": 1}
    run = pipeline.train(
        str(tmp_path / "rows.json"), model=str(tmp_path / "base"), settings=settings, out=tmp_path / "r"
    )
    found = read_json(run.evaluation_file)
    assert [*found["models"]] == ["base", "tuned"]
    assert found["not_asked"]["base_own_template"].startswith(told)
    assert f"The base model is not asked in its own template: {told}" in capsys.readouterr().err.replace("\n", " ")
    assert run.report_file.is_file()


def messages_of(row: dict[str, str]) -> list[dict[str, str]]:
    return [{"role": "user", "content": row["instruction"]}, {"role": "assistant", "content": row["output"]}]
