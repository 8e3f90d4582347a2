"""The model card, read by the Hub's own loader."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from markdown_it.token import Token
from tests.report.runs import events, finished_run

from heedful import pipeline
from heedful.report import card
from heedful.report.page import write_report
from heedful.report.scores import formatted, score_table, verdict
from heedful.run import Run
from heedful.settings import load_config
from heedful.system.atomic import read_json, write_json


def _card(run: Run) -> Path:
    path = card.write_card(run)
    assert path is not None
    return path


def _tokens(text: str) -> list[Token]:
    return [token for block in MarkdownIt().parse(text) for token in (block, *(block.children or ()))]


def test_the_hub_reads_the_card(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "mine")
    loaded = ModelCard.load(_card(run))
    data = loaded.data.to_dict()
    assert data["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert data["license"] == "apache-2.0"
    assert data["pipeline_tag"] == "text-generation"
    results = {result.metric_type: result for result in loaded.data.eval_results or []}
    assert results["rouge_l"].metric_value == 0.6
    assert results["rouge_l"].metric_args == {"low": 0.55, "high": 0.65, "rows": 40}
    assert results["rouge_l"].dataset_revision == "ab" * 32


def test_the_card_accounts_for_the_rows(tmp_path: Path) -> None:
    text = ModelCard.load(_card(finished_run(tmp_path / "mine"))).text
    assert "ab" * 32 in text
    assert "130 read, 124 kept; dropped: 6 (" in text
    assert not {token.type for token in _tokens(text)} & {"html_block", "html_inline"}
    assert "80 learned from, 4 for the validation loss, 40 for the scores" in text
    assert (
        "| ROUGE-L (decides) | 0.300 [0.250, 0.350] | 0.600 [0.550, 0.650] | +0.300 [+0.200, +0.400] | better |" in text
    )


def test_three_models_with_a_score_that_one_of_them_lacks(tmp_path: Path) -> None:
    """Card and page leave its place empty, in text and picture, and keep what the others have."""
    run = finished_run(tmp_path / "mine")
    found = read_json(run.evaluation_file)
    base = {name: score for name, score in found["models"]["base"].items() if name != "rouge_l"}
    found["models"] = {"base": found["models"]["base"], "base_own_template": base, "tuned": found["models"]["tuned"]}
    write_json(run.evaluation_file, found)
    text = _card(run).read_text(encoding="utf-8")
    assert "| ROUGE-L (decides) | 0.300 [0.250, 0.350] |  | 0.600 [0.550, 0.650] | +0.300" in text
    first, second, *_ = score_table(found)["rows"]
    assert (first["decides"], first["cells"][1], second["cells"][1]["value"]) == (True, None, "1.400")
    marks = [[(mark["kind"], mark["y"]) for mark in row["plot"]["marks"]] for row in (first, second)]
    assert marks == [[("before", 8), ("after", 38)], [("before", 8), ("middle", 23), ("after", 38)]]
    assert first["alt"] == "ROUGE-L: Before 0.300 (0.250 to 0.350); After 0.600 (0.550 to 0.650)"
    page = write_report(run).read_text(encoding="utf-8")
    assert '<td class="number" data-name="Before, in its own template"></td>' in page


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [("base", "tuned", "rose from"), ("tuned", "base", "fell from"), ("base", "base", "stayed at 0.300 (")],
)
def test_the_verdict_says_which_way_the_score_went(before: str, after: str, change: str, tmp_path: Path) -> None:
    found = read_json(finished_run(tmp_path / "mine").evaluation_file)
    models, pair = found["models"], found["paired"]["rouge_l"]
    pair["difference"] = models[after]["rouge_l"]["value"] - models[before]["rouge_l"]["value"]
    assert change in verdict(found, before, after, "The new model", "the old")["sentence"]


@pytest.mark.parametrize("metric", ["exact_match", "judge_wins", "chosen", "check_all", "check_max_words"])
def test_a_share_is_told_in_percent(metric: str) -> None:
    assert formatted(metric, 0.5) == "50.0\u00a0%"
    assert formatted(metric, -0.255, sign=True) == "−25.5\u00a0pp"  # of percentages: no share of the first
    assert formatted(metric, -0.0001, sign=True) == "+0.0\u00a0pp"


def test_scores_of_other_settings_are_told_as_such(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "mine")
    of = {"data": "rows.json", "rows": "held back", "settings": {"generate.max_tokens": 6}}
    write_json(run.evaluation_file, read_json(run.evaluation_file) | {"of": of})
    told = "On 40 rows held back, answered with generate.max\\_tokens=6. In brackets"
    assert told in _card(run).read_text(encoding="utf-8")


def test_rows_that_no_update_met_were_not_learned_from(tmp_path: Path) -> None:
    """As where a budget ended a run within its first epoch."""
    run = finished_run(tmp_path / "mine")
    run.metrics_file.unlink()
    for event in events(steps=3):
        run.log(event)
    assert "24 of 80 learned from, 4 for" in ModelCard.load(_card(run)).text
    assert "of 80; held back" in write_report(run).read_text(encoding="utf-8")


def test_names_and_settings_that_stand_as_code_are_not_escaped(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "mine")
    leaves = {"data.path": "my_`rows`.json", "evaluate.decides": "token_f1"}
    run.write_config(load_config(None, leaves))
    spans = {token.content for token in _tokens(card.card(run)) if token.type == "code_inline"}
    assert {"my_`rows`.json", "data.path=my_`rows`.json", "evaluate.decides=token_f1"} <= spans


def test_a_model_of_unknown_licence_claims_none(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "mine")
    run.evaluation_file.unlink()
    run.write_config(load_config(run.config_file, {"model.name": str(tmp_path / "a-folder")}))
    data = ModelCard.load(_card(run)).data.to_dict()
    assert "license" not in data
    assert "base_model" not in data
    assert "model-index" not in data


@pytest.mark.parametrize(
    ("name", "origin", "base"),
    [
        ("models/tiny", "/home/me/models/tiny", None),
        ("org/tiny", "org/tiny", "org/tiny"),
        ("gpt2", "/home/me/gpt2", None),
        ("gpt2", "openai-community/gpt2", "openai-community/gpt2"),
        ("smollm2-135m", "/home/me/.cache/heedful/models/ab12", "HuggingFaceTB/SmolLM2-135M-Instruct"),
    ],
)
def test_the_base_is_named_by_where_it_came_from(
    name: str, origin: str, base: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not by what is in the folder from which the card is written."""
    run = finished_run(tmp_path / "mine")
    run.write_config(load_config(run.config_file, {"model.name": name}))
    write_json(run.provenance_file, read_json(run.provenance_file) | {"model": origin})
    (tmp_path / "org/tiny").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "org"):
        monkeypatch.chdir(folder)
        data = ModelCard.load(_card(run)).data.to_dict()
        assert (data.get("base_model"), "license" in data) == (base, base is not None and "org/" not in base)


@pytest.mark.parametrize(
    ("name", "origin", "base"),
    [
        ("smollm2-135m", "/home/me/.cache/heedful/models/ab12", None),  # not the hub's weights
        ("smollm2-360m", "HuggingFaceTB/SmolLM2-360M-Instruct", "HuggingFaceTB/SmolLM2-360M-Instruct"),
        ("/home/me/ti_ny", "/home/me/ti_ny", None),
    ],
)
def test_an_adapters_card_names_the_base_that_it_lies_on(
    name: str, origin: str, base: str | None, tmp_path: Path
) -> None:
    run = finished_run(tmp_path / "mine")
    run.write_config(load_config(run.config_file, {"model.name": name, "train.method": "lora"}))
    write_json(run.provenance_file, read_json(run.provenance_file) | {"model": origin})
    loaded = ModelCard(card.card(run, adapter=True))
    data, told = loaded.data.to_dict(), "".join(token.content for token in _tokens(loaded.text) if not token.children)
    assert (data["library_name"], data.get("base_model")) == ("peft", base)
    assert f'base = AutoModelForCausalLM.from_pretrained("{base or "path/to/its/base"}")' in told
    needed = f"must be supplied: it was {Path(name).name}, with weights of the fingerprint cd; an export without"
    assert (needed in told) == (base is None)
    assert "/home/me" not in loaded.content and "merged" not in told


def test_a_setting_is_told_without_the_folders_of_this_machine(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "mine")
    run.write_config(load_config(run.config_file, {"model.name": "/home/me/tiny", "data.path": "~/rows.json"}))
    assert "`model.name=tiny`, `data.path=rows.json`" in card.card(run)


def test_a_folder_that_was_trained_on_is_remembered_by_its_whole_path(
    tiny_folder: Path, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_folder.parents[1])
    name = str(tiny_folder.relative_to(tiny_folder.parents[1]))
    settings = ["train.max_steps=1", "evaluate.after_training=false", "encode.template=chatml"]
    run = pipeline.train(str(rows_file), model=name, settings=settings, out=tmp_path / "run")
    assert run.provenance()["model"] == str(tiny_folder)
    monkeypatch.chdir(tmp_path)
    assert "base_model" not in ModelCard.load(_card(run)).data.to_dict()


def test_a_card_without_validation_rows_says_so(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "mine")
    receipt = read_json(run.receipt_file)
    receipt["data"]["sizes"]["validation"] = 0
    write_json(run.receipt_file, receipt)
    scores = read_json(run.evaluation_file)
    del scores["forgetting"]
    write_json(run.evaluation_file, scores)
    assert "What it forgot of what the base model knew was not measured." in _card(run).read_text(encoding="utf-8")
    assert "the last weights are kept, not the best" in _card(run).read_text(encoding="utf-8")


def test_a_key_in_the_address_of_the_data_is_on_neither(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "mine")
    run.write_config(load_config(run.config_file, {"data.path": "https://h.example/rows.json?token=hunter2"}))
    texts = [path.read_text(encoding="utf-8") for path in (_card(run), write_report(run))]
    assert all("rows.json?..." in text and "hunter2" not in text for text in texts)


def test_a_run_without_its_receipt_has_no_card(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "mine")
    run.receipt_file.unlink()
    assert card.write_card(run) is None


@pytest.mark.parametrize("text", ["a", "`a", "a`", "``", "a `b`` c"])
def test_code_of_the_card_is_read_as_it_was(text: str) -> None:
    (found,) = (token for token in _tokens(card._code(text)) if token.type == "code_inline")
    assert found.content == text
