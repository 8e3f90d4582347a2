"""What matrices are multiplied in: chosen by measuring, once for a machine, and written into the run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.models import CACHELESS, folder_of, tiny_model
from tests.train.test_loss import collator, rows_that_share

import heedful
from heedful.config import TrainConfig
from heedful.engines import _device
from heedful.errors import UsageError
from heedful.system import machine
from heedful.train import precision
from heedful.train.learner import Learner

RATES = {"bf16": 2e11, "fp32": 3e11}  # FLOP/s of two cores with avx512_bf16 and without tiles
QUICK = {"train.max_steps": 2, "train.evaluate_batches": 1, "evaluate.after_training": False, "generate.max_tokens": 1}

DEEPSEEK = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 512, "n_routed_experts": 4, "moe_intermediate_size": 32,
    "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "q_lora_rank": 8, "kv_lora_rank": 8,
    "qk_rope_head_dim": 8, "v_head_dim": 8, "qk_nope_head_dim": 8, "first_k_dense_replace": 1,
}  # fmt: skip


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, float]]:
    """A machine with instructions for bf16 of which nothing is known yet; how fast it is may be changed."""
    rates = dict(RATES)
    monkeypatch.setenv("HEEDFUL_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(precision, "native_bf16", lambda: True)
    monkeypatch.setattr(machine, "matmul_rate", lambda kind, shape: rates[kind])
    precision.bf16_pays.cache_clear()
    yield rates
    precision.bf16_pays.cache_clear()


def test_what_the_hardware_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "native_bf16", lambda: False)
    assert precision.resolve("auto") == precision.resolve("fp32") == "fp32"
    with pytest.raises(UsageError, match=r"train.precision=bf16, but .* Set train.precision=fp32:"):
        precision.resolve("bf16")


@pytest.mark.parametrize(("bf16", "chosen"), [(1.5e11, "fp32"), (3.5e11, "fp32"), (4e11, "bf16"), (9e11, "bf16")])
def test_bf16_is_chosen_where_it_is_clearly_faster(native: dict[str, float], bf16: float, chosen: str) -> None:
    native["bf16"] = bf16
    assert precision.resolve("auto") == chosen
    assert (precision.resolve("fp32"), precision.resolve("bf16")) == ("fp32", "bf16")  # whoever asks gets it


def test_a_machine_is_measured_once_whatever_another_measurement_would_find(native: dict[str, float]) -> None:
    assert precision.resolve("auto") == "fp32"
    native["bf16"] = 9e11
    precision.bf16_pays.cache_clear()  # as in the next process
    assert precision.resolve("auto") == "fp32"


def test_where_nothing_can_be_kept_it_is_measured_all_the_same(
    native: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HEEDFUL_HOME", str(tmp_path / "file" / "home"))
    native["bf16"] = 9e11
    assert precision.resolve("auto") == "bf16"


def test_a_run_says_what_it_was_computed_in_and_may_go_on_in_another(
    native: dict[str, float], tiny_folder: Path, rows_file: Path, tmp_path: Path
) -> None:
    run = heedful.train(rows_file, model=tiny_folder, settings=QUICK, out=tmp_path / "run")
    assert run.config().train.precision == "fp32"
    assert run.provenance()["asked"]["train.precision"] == "auto"
    native["bf16"] = 9e11
    precision.bf16_pays.cache_clear()
    longer = {"train.max_steps": 3, "train.precision": "auto"}  # as a recipe that names every setting says it again
    run = heedful.train(rows_file, model=tiny_folder, settings=longer, out=run.path, resume=True)
    assert run.config().train.precision == "fp32"
    longer = {"train.max_steps": 4, "train.precision": "bf16"}
    run = heedful.train(rows_file, model=tiny_folder, settings=longer, out=run.path, resume=True)
    assert (run.config().train.precision, run.provenance()["updates"]) == ("bf16", 4)


def test_a_precision_that_was_asked_for_first_may_be_asked_for_again(
    native: dict[str, float], tiny_folder: Path, rows_file: Path, tmp_path: Path
) -> None:
    for steps, chosen in ((2, "fp32"), (3, "bf16"), (4, "fp32")):
        asked = {**QUICK, "train.max_steps": steps, "train.precision": chosen}
        run = heedful.train(rows_file, model=tiny_folder, settings=asked, out=tmp_path / "run", resume=steps > 2)
        assert run.config().train.precision == chosen


def test_a_run_in_bf16_goes_on_without_it_as_the_refusal_says(
    native: dict[str, float], tiny_folder: Path, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native["bf16"] = 9e11
    run = heedful.train(rows_file, model=tiny_folder, settings=QUICK, out=tmp_path / "run")
    assert run.config().train.precision == "bf16"
    monkeypatch.setattr(precision, "native_bf16", lambda: False)
    with pytest.raises(UsageError, match=r"bf16, but this processor .* Set train.precision=fp32"):
        heedful.train(out=run.path, settings={"train.max_steps": 3}, resume=True)
    run = heedful.train(out=run.path, settings={"train.max_steps": 3, "train.precision": "fp32"}, resume=True)
    assert (run.config().train.precision, run.provenance()["updates"]) == ("fp32", 3)


def test_answers_are_computed_on_a_gpu_that_has_room_for_twice_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    weights = sum(4 * p.numel() for p in model.parameters())
    assert _device(model).type == "cpu"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for free, chosen in ((2 * weights, "cpu"), (2 * weights + 1, "cuda")):
        monkeypatch.setattr("heedful.engines.free_memory", lambda device, free=free: free)
        assert _device(model).type == chosen


def test_the_processor_decides_on_answers_that_a_gpu_has_no_room_for(
    native: dict[str, float], tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supported = [True]
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: supported[0])
    monkeypatch.setattr("heedful.engines.free_memory", lambda device: 0)
    assert precision.resolve("auto") == "bf16" and native["bf16"] < native["fp32"]
    assert heedful.load(tiny_folder).model.dtype == torch.float32
    supported[0] = False
    with pytest.raises(UsageError, match=r"train.precision=bf16, but this GPU has no native bf16"):
        precision.resolve("bf16")
    assert precision.resolve("auto") == "fp32"
    assert heedful.load(tiny_folder, settings={"generate.precision": "bf16"}).model.dtype == torch.bfloat16


def test_a_precision_for_answers_that_the_processor_lacks_is_refused_before_the_training(
    rows_file: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "native_bf16", lambda: False)
    asked = {"generate.precision": "bf16", "train.max_steps": 1}
    with pytest.raises(UsageError, match=r"generate.precision=bf16, but this processor has no native bf16"):
        heedful.train(rows_file, model=str(tiny_folder), out=tmp_path / "run", settings=asked)
    assert not (tmp_path / "run").exists()
    asked["evaluate.after_training"] = False  # they may be computed elsewhere
    assert heedful.train(rows_file, model=str(tiny_folder), out=tmp_path / "run", settings=asked).has_model


def test_one_busy_moment_does_not_choose(native: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    native["bf16"] = 9e11
    measured: list[str] = []

    def rate(kind: str, shape: machine.Shape) -> float:
        measured.append(kind)
        return native[kind] / (9 if len(measured) == 1 else 1)

    monkeypatch.setattr(machine, "matmul_rate", rate)
    assert precision.resolve("auto") == "bf16"


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_model_that_multiplies_with_a_mask_of_its_own_learns_in_bf16_too(
    native: dict[str, float], method: str, rows_file: Path, tmp_path: Path
) -> None:
    """OpenAI GPT's is a buffer, made in the type of the weights."""
    folder = folder_of(tmp_path / "model", CACHELESS, n_positions=512)
    losses = []
    for chosen in ("fp32", "bf16"):
        asked = {**QUICK, "train.method": method, "train.precision": chosen, "generate.precision": chosen}
        run = heedful.train(rows_file, model=folder, settings=asked, out=tmp_path / chosen)
        losses.append([event["loss"] for event in run.metrics() if event["event"] == "step"])
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=0.02)


def test_what_a_router_learned_as_a_buffer_keeps_its_precision(native: dict[str, float]) -> None:
    """DeepSeek chooses experts by a bias that is no parameter; in bf16 it would be rounded, and saved so."""
    model = tiny_model("deepseek_v3", **DEEPSEEK)
    bias = dict(model.named_buffers())["model.layers.1.mlp.gate.e_score_correction_bias"]
    learned = torch.linspace(0.1, 0.2, len(bias))
    bias.copy_(learned)
    learner = Learner(model, collator("padded"), TrainConfig(precision="bf16"), steps=1)
    learner.update(0, learner.accumulate(rows_that_share(0), 0)[0])
    kept = model.state_dict()["model.layers.1.mlp.gate.e_score_correction_bias"]
    torch.testing.assert_close(kept, learned, rtol=0, atol=0)
