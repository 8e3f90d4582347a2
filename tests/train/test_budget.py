"""A run with a budget: its totals are fitted by measure, and written down."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from tests.train.sessions import Screen, session

import heedful
from heedful.begin import claim_folder, configure, resolve_run
from heedful.errors import UsageError
from heedful.settings import dump_config, load_config
from heedful.system.atomic import read_json
from heedful.train import learner
from heedful.train.budget import Budget, Costs
from heedful.train.deadline import fit_into, total_at

TRAIN = load_config(None, {"train.evaluate_every": 4, "train.save_every": 10, "train.batch_size": 4}).train


def test_what_remains_is_counted_part_by_part() -> None:
    """10 steps of 4 rows out of 20: validations at 4, 8, 10 and before; epochs end at 5, 10; one save; the model."""
    costs = Costs(step=1.0, validation=100.0, sample=1_000.0, save=10_000.0, model=100_000.0)
    assert costs.remaining(TRAIN, 20, 0, 10) == 10 + 400 + 2_000 + 10_000 + 100_000
    assert costs.remaining(TRAIN, 20, 8, 10) == 2 + 100 + 1_000 + 10_000 + 100_000


def test_the_largest_total_that_ends_in_time() -> None:
    budget = Budget(50.0, time.perf_counter() + 50, Costs(step=1.0, model=10.5), most=1000)
    assert budget.fit(TRAIN, 4000, 0) == 39
    assert budget.fit(TRAIN, 4000, 30) == 69
    assert Budget(5.0, time.perf_counter() + 5, Costs(step=1.0, model=10.0), most=9).fit(TRAIN, 400, 0) == 0


@pytest.mark.parametrize("done", [0, 3, 30])
@pytest.mark.parametrize("validation", [0.5, 10, 40])
def test_a_longer_run_that_validates_less_often_may_be_the_one_that_fits(validation: float, done: int) -> None:
    """8 steps validate four times, every 2; 9 only three times, every 3."""
    train = load_config(None, {"train.batch_size": 4}).train
    costs = Costs(step=1.0, validation=validation, sample=0.5, save=1.0, model=2.0)
    for seconds in (4.5, 10.5, 20.5, 30.5, 60.5, 100.5, 200.5, 250.5):
        fitting = (n for n in range(done + 1, 41) if costs.remaining(train, 80, done, n) <= seconds)
        budget = Budget(seconds, time.perf_counter() + seconds + 0.2, costs, most=40)
        assert budget.fit(train, 80, done) == max(fitting, default=done)


def test_a_slower_run_shortens_itself_and_a_faster_one_grows_to_what_was_asked() -> None:
    def after(seconds: float) -> int:
        budget = Budget(100.0, time.perf_counter() + 100, Costs(step=1.0), most=120)
        return [budget.look(TRAIN, 4000, step, 100, seconds) for step in range(1, 7)][-1]

    assert (after(2.0), after(0.5)) == (55, 120)
    assert after(1e6) == 7  # of 6 that are made: whatever it costs, the last one brings the learning rate to 0
    assert total_at({0: 100, 5: 54}, 4) == 100
    assert total_at({0: 100, 5: 54}, 5) == 54


def test_a_run_that_is_over_grows_no_more() -> None:
    budget = Budget(100.0, time.perf_counter() + 100, Costs(step=1.0), most=120)
    assert [budget.look(TRAIN, 4000, step, 5, 1.0) for step in range(1, 6)] == [5] * 5


def short(path: Path, screen: Screen | None = None, *settings: str):  # type: ignore[no-untyped-def]
    return session(path, "train.epochs=4", "train.save_every=2", *settings, screen=screen)


def begin(path: Path, screen: Screen, seconds: float):  # type: ignore[no-untyped-def]
    made = short(path, screen)
    fit_into(made, seconds, time.perf_counter())
    made.begin()
    return made


def test_a_budget_larger_than_the_run_leaves_it_as_it_was(tmp_path: Path) -> None:
    made = begin(tmp_path, Screen(), 1e6)
    assert made.learner.steps == made.run.config().train.max_steps == 24


def test_a_budget_too_short_for_one_step_is_refused_and_the_folder_stays_free(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"too short: .* validating \d+ rows twice .*train\.evaluate_batches"):
        begin(tmp_path, Screen(), 1e-9)
    assert not (tmp_path / "config.yaml").exists()


def test_a_run_killed_while_it_measures_leaves_its_name_free(
    tiny_folder: Path, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it could be resumed, but without its budget; even if memory ran out before, for which it settles."""
    tried: list[int] = []

    def crash(model: object, batch: Any) -> None:
        tried.append(batch.input_ids.numel())
        raise MemoryError if len(tried) % 2 else KeyboardInterrupt

    monkeypatch.setattr(learner, "prediction_nll", crash)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            heedful.train(rows_file, model=tiny_folder, out=tmp_path / "run", budget=60)
        assert not (tmp_path / "run").exists()
    assert tried[0] > tried[1]


def test_a_run_killed_before_it_began_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    fitted = short(tmp_path)
    fit_into(fitted, 1e6, time.perf_counter())
    with claim_folder(fitted.run, resume=False):
        fitted.begin()
    assert read_json(fitted.run.budget_file) == {"0": fitted.learner.steps}


def test_what_a_kill_left_while_it_measured_is_removed_at_the_next_start(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "..measure.tmp-4194305.tmp-4194305").mkdir(parents=True)
    short(tmp_path).begin()
    assert not [*(tmp_path / "checkpoints").iterdir()]


def test_the_recipe_of_a_run_does_not_undo_what_the_run_settled(
    tiny_folder: Path, rows_file: Path, tmp_path: Path
) -> None:
    """A recipe as a sweep writes it names every setting, and batch_tokens: auto and max_steps: null with them."""
    asked = {"encode.template": "chatml", "evaluate.after_training": False, "train.epochs": 1}
    named = {"data.path": str(rows_file), "model.name": str(tiny_folder)}
    (tmp_path / "recipe.yaml").write_text(dump_config(load_config(None, asked, named)))
    run = heedful.train(recipe=tmp_path / "recipe.yaml", out=tmp_path / "run", budget=1e6)
    settled = run.config()
    assert settled.train.max_steps and settled.train.evaluate_every and settled.encode.batch_tokens != "auto"
    for settings, steps in ((), settled.train.max_steps), ({"train.max_steps": 50}, 50), ((), 50):
        _, tree = resolve_run(configure(tmp_path / "recipe.yaml", settings, None, None), run.path, True)
        kept = run.config({"train.max_steps": steps})
        assert tree == kept.model_dump(mode="json")
        run.write_config(kept)


def test_a_resumed_run_is_given_no_other_budget(tmp_path: Path) -> None:
    made = begin(tmp_path, Screen(), 1e6)
    with pytest.raises(UsageError, match="fixed when a run starts"):
        heedful.train(out=made.run.path, resume=True, budget=60)


def test_the_bar_shows_the_total_that_counts(tmp_path: Path) -> None:
    shown: list[tuple[int, int]] = []
    screen = Screen(lambda metrics: shown.append((metrics.step, screen.total)))
    made = begin(tmp_path, screen, 1e6)
    made.budget.look = lambda config, rows, done, total, seconds: 9 if done == 5 else total  # type: ignore[union-attr]
    made.fit()
    assert [pair for pair in shown if 3 < pair[0] < 7 or pair[0] == 9] == [(4, 24), (5, 9), (6, 9), (9, 9)]
