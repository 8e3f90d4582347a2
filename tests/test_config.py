"""Every setting is read by code, or setting it is an error; all that is wrong is said at once."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

import heedful
from heedful.commands.list_settings import explain
from heedful.config import Config
from heedful.errors import UsageError
from heedful.settings import LEAVES, changed, dump_config, load_config, split_override

SOURCES = Path(heedful.__file__).parent
SETTINGS = (SOURCES / "config.py", SOURCES / "settings.py")  # which hold all of them
RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*.yaml"))

# How code holds a section: `config.train.lr` anywhere, or `config.lr` in its own stage.
SHORT = {"generate": {"generate"}, "encode": {"config", "encode"}}
STAGES = {"data": "data", "encode": "encode", "train": "train"}


@functools.cache
def accesses(file: Path) -> set[tuple[str, str]]:
    """List (name before the dot, attribute) of every attribute access in a file's code; strings do not count."""
    nodes = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Attribute)]
    return {(getattr(node.value, "attr", getattr(node.value, "id", "")), node.attr) for node in nodes}


@pytest.mark.parametrize("leaf", LEAVES)
def test_every_setting_is_read_by_code(leaf: str) -> None:
    """Invariant 12: as an attribute of what holds its section, outside SETTINGS, or by a method of its section."""
    section, key = leaf.split(".")
    short = SHORT.get(section, {"config"})
    found = []
    for file in SOURCES.rglob("*.py"):
        own = file.parent.name == STAGES.get(section) or file.name in (
            "pipeline.py",
            "begin.py",
            "engines.py",
            "adapters.py",
        )
        holders = {section, *(short if own else ())}
        found += [file.name for holder in holders if (holder, key) in accesses(file) and file not in SETTINGS]
    handed_on = section in ("train", "generate") and ("self", key) in accesses(SOURCES / "config.py")
    assert found or handed_on, f"{leaf} is read nowhere"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_comes_back(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    (tmp_path / "again.yaml").write_text(dump_config(config), encoding="utf-8")
    assert load_config(tmp_path / "again.yaml") == config
    assert changed(config)


def test_there_are_recipes_and_every_leaf_is_explained() -> None:
    assert RECIPES
    assert [leaf for leaf, *_ in explain()] == list(LEAVES)
    assert all(description.endswith(".") for *_, description in explain())


def test_every_leaf_says_what_it_may_be() -> None:
    may_be = {leaf: permitted for leaf, _, permitted, _ in explain()}
    assert all(may_be.values())
    assert may_be["train.schedule"] == "constant | linear | cosine"
    assert may_be["model.dropout"] == "number from 0 below 1"
    assert may_be["train.clip"] == "number above 0 | null"
    assert may_be["encode.batch_tokens"] == "whole number from 1 | auto"
    assert may_be["train.batch_size"] == "whole number from 1 | auto"
    assert may_be["train.seed"] == "whole number from 0 below 2**63"
    assert may_be["run.track"] == "tensorboard | trackio | mlflow | wandb | null"
    assert may_be["evaluate.after_training"] == "true | false"


def test_later_settings_win(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("train:\n  lr: 1e-3\n  epochs: 3\n")
    config = load_config(recipe, ["train.lr=2e-3"], {"train.batch_size": 2})
    assert (config.train.lr, config.train.epochs, config.train.batch_size) == (0.002, 3, 2)
    assert changed(config) == {"train.lr": 0.002, "train.epochs": 3, "train.batch_size": 2}


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ("train.learning_rate=1", "no setting 'train.learning_rate'"),
        ("train.epoch=1", "Did you mean 'train.epochs'?"),
        ("trian.lr=1", "Did you mean 'train.lr'?"),
        ("lr=1", "Did you mean 'train.lr'?"),
        ("encode.max_token=9", "Did you mean 'encode.max_tokens'?"),
        ("generation.max_tokens=9", "Did you mean 'generate.max_tokens'?"),  # not encode's, which comes first
        ("trian.seed=1", "Did you mean 'train.seed'?"),
        ("generat.precision=fp32", "Did you mean 'generate.precision'?"),
        ("train.max_tokens=9", "max_tokens'?"),  # train.max_steps is as near, and means something else
        ("nothing.like=it", "no setting 'nothing.like'"),
    ],
)
def test_an_unknown_key_is_an_error_with_a_suggestion(setting: str, hint: str) -> None:
    with pytest.raises(UsageError, match=re.escape(hint)):
        load_config(None, [setting])


@pytest.mark.parametrize(
    "setting",
    [
        "train.lr=0", "train.lr=-1", "train.lr=.inf", "train.lr=.nan", "train.lr=fast", "train.epochs=0",
        "train.epochs=1.5", "train.batch_size=x", "train.schedule=cosin", "model.dropout=1", "data.test_share=1",
        "encode.max_tokens=2", "generate.top_p=0", "encode.layout=", "train.clip=0", "data.columns=x",
        "encode.prompt_weight=2", f"train.seed={2**64}", f"data.seed={2**63}", f"generate.seed={2**63}",
    ],
)  # fmt: skip
def test_an_impossible_value_names_its_setting(setting: str) -> None:
    with pytest.raises(UsageError, match=re.escape(setting.partition("=")[0])) as caught:
        load_config(None, [setting])
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        ("data.columns={output:a}", "data.columns={'output:a': null}"),
        ("data.columns={1: output}", "data.columns={1: output}"),
        ("data.columns={2020-01-01: output}", "data.columns={2020-01-01: output}"),
        ("generate.stop=[1, 2, 3]", "generate.stop=[1, 2, 3]"),
        ("generate.stop=&a [*a]", "generate.stop=&id001 [*id001]"),
        ("train.lr=2020-01-01", "train.lr=2020-01-01"),
    ],
)
def test_a_value_of_the_wrong_kind_is_shown_once_as_it_was_written(setting: str, shown: str) -> None:
    with pytest.raises(UsageError, match=rf"^{re.escape(shown)} is not valid: input should be") as caught:
        load_config(None, [setting])
    assert str(caught.value).count(" is not valid") == 1


@pytest.mark.parametrize("word", ["true", "no"])
def test_what_is_true_or_false_is_no_number(tmp_path: Path, word: str) -> None:
    """Else `train.epochs=true` trained one epoch, and `train.seed=no` had the seed 0."""
    numbers = [leaf for leaf, _, permitted, _ in explain() if "number" in permitted]
    recipe = tmp_path / "recipe.yaml"
    for leaf in numbers:
        section, key = leaf.split(".")
        recipe.write_text(f"{section}:\n  {key}: {word}\n")
        for given in ((None, [f"{leaf}={word}"]), (recipe,)):
            with pytest.raises(UsageError, match=rf"^{leaf}=(true|false) is not valid: input should be"):
                load_config(*given)
    with pytest.raises(UsageError, match=r"^train\.lr=true is not valid: input should be a number, neither true nor"):
        load_config(None, {"train.lr": True})
    assert len(numbers) > 20 and load_config(None, ["train.drop_last=yes"]).train.drop_last


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("train:\n  lr: -1\n  epocs: 2\nnope:\n  x: 1\n")
    with pytest.raises(UsageError) as caught:
        load_config(recipe, ["encode.layout=heap"])
    for part in ("train.lr=-1", "train.epocs", "nope.x", "encode.layout=heap"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (["encode.supervise=all", "encode.prompt_weight=0.1"], "encode.prompt_weight has no meaning"),
        (["data.test_share=0.6", "data.validation_share=0.5"], "leave nothing to train on"),
        (["train.lora_alpha=8"], "train.lora_alpha has no meaning"),
    ],
)
def test_settings_that_cannot_stand_together(settings: list[str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        load_config(None, settings)


@pytest.mark.parametrize("content", ["- a\n", "train: 5\n", "", "train: [\n", "just words\n"])
def test_a_recipe_that_is_none_is_refused_by_name(tmp_path: Path, content: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(content)
    with pytest.raises(UsageError, match=r"recipe\.yaml"):
        load_config(recipe)


def test_a_recipe_that_is_missing_or_binary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Cannot read the recipe"):
        load_config(tmp_path / "absent.yaml")
    (tmp_path / "date.yaml").write_text("data:\n  path: 2024-02-30\n")
    with pytest.raises(UsageError, match=r"date\.yaml holds a value that cannot be read: day is .*into quotes"):
        load_config(tmp_path / "date.yaml")
    for odd in ("2024-02-30", "!!timestamp x", "!!int _"):
        assert load_config(None, [f"data.path={odd}"]).data.path == odd
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is not YAML"):
        load_config(tmp_path / "binary.yaml")


def test_a_key_given_twice_in_a_recipe_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    for text in ("train:\n  lr: 1e-3\nencode:\n  layout: tree\ntrain:\n  epochs: 2\n", "train:\n  lr: 1\n  lr: 2\n"):
        recipe.write_text(text)
        with pytest.raises(UsageError, match="twice"):
            load_config(recipe)


@pytest.mark.parametrize("text", ["? [a, b]\n: c\n", "train:\n  ? {lr: 1}\n  : 2\n", "&a [*a]: 1\n"])
def test_a_key_of_a_recipe_is_one_word(tmp_path: Path, text: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    with pytest.raises(UsageError, match=rf"recipe\.yaml:{1 + text.startswith('train')} .*a key that is not one word"):
        load_config(recipe)


def test_an_override_is_a_key_and_a_value() -> None:
    assert split_override("train.lr=1e-4") == ("train.lr", "1e-4")
    assert split_override("generate.stop=['=']") == ("generate.stop", ["="])
    with pytest.raises(UsageError, match="has no value"):
        split_override("train.lr")


def test_the_configuration_is_frozen() -> None:
    with pytest.raises(Exception, match="frozen"):
        Config().train.lr = 1.0  # type: ignore[misc]


def test_a_temperature_that_numbers_cannot_hold_takes_the_likeliest_token() -> None:
    for asked, taken in ((0, 0.0), (5e-6, 0.0), (1e-5, 1e-5), (0.7, 0.7)):
        assert load_config(None, {"generate.temperature": asked}).generate.sampling().temperature == taken
