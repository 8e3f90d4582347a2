"""What only a GPU trains: refused without one. With bitsandbytes at hand, packed parts are tried on the processor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.models import tiny_model

from heedful import pipeline
from heedful.config import TrainConfig
from heedful.errors import UsageError
from heedful.model import pretrained
from heedful.model.adapters import adapt
from heedful.settings import load_config
from heedful.train import gpu
from heedful.train.estimate import estimate
from heedful.train.optimizer import MasterAdamW

NF4 = ("train.method=lora", "train.quantize=nf4")


@pytest.mark.parametrize("asked", [NF4, ("train.optimizer=adamw_8bit",)])
def test_without_a_gpu_it_is_refused_before_any_work(
    asked: tuple[str, ...], rows_file: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=rf"{asked[-1]} needs an NVIDIA GPU"):
        pipeline.train(str(rows_file), model=str(tiny_folder), settings=asked, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_bitsandbytes_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs bitsandbytes\. Run .+ -m pip install 'bitsandbytes>="):
        gpu.check_gpu(TrainConfig(optimizer="adamw_8bit"))
    gpu.check_gpu(TrainConfig())


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        (("train.quantize=nf4",), "needs train.method=lora"),
        ((*NF4, "train.sharding=full"), "train.quantize=nf4 cannot be shared out"),
        (("train.optimizer=adamw_8bit", "train.sharding=full"), "train.optimizer=adamw_8bit cannot be shared out"),
    ],
)
def test_what_does_not_go_together_is_refused(asked: tuple[str, ...], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        load_config(None, asked)


def test_packed_weights_and_moments_are_estimated_smaller() -> None:
    model = tiny_model("llama").config
    plain, nf4 = (
        estimate(model, TrainConfig(method="lora", quantize=quantize), "bf16")  # type: ignore[arg-type]
        for quantize in ("none", "nf4")
    )
    linear = sum(m.weight.numel() for n, m in tiny_model("llama").named_modules() if "_proj" in n)
    assert plain.weights - nf4.weights == 2 * linear - linear * 33 // 64
    assert estimate(model, TrainConfig(optimizer="adamw_8bit"), "bf16").masters * 2 == plain_masters(model)


def plain_masters(model) -> int:  # type: ignore[no-untyped-def]
    return estimate(model, TrainConfig(), "bf16").masters


def test_nf4_weights_learn_through_adapters(tiny_folder: Path) -> None:
    pytest.importorskip("bitsandbytes")
    whole = pretrained.load(str(tiny_folder)).model
    packed = pretrained.load(str(tiny_folder), nf4=torch.float32).model
    layer = packed.model.layers[0].mlp.up_proj
    assert layer.weight.dtype == torch.uint8
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.allclose(packed(input_ids=ids).logits, whole(input_ids=ids).logits, atol=0.1)
    adapted = adapt(packed, TrainConfig(method="lora", quantize="nf4"))
    adapted(input_ids=ids, labels=ids).loss.backward()
    trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name and p.grad is not None for name, p in trained.items())


def test_packed_moments_follow_the_whole_ones_and_come_back_bit_for_bit() -> None:
    pytest.importorskip("bitsandbytes")
    from heedful.train.eight_bit import EightBitAdamW

    def updated(kind: type[MasterAdamW], steps: int) -> MasterAdamW:
        torch.manual_seed(0)
        weights = {"matrix": torch.nn.Parameter(torch.randn(64, 100)), "bias": torch.nn.Parameter(torch.randn(64))}
        optimizer = kind(weights, TrainConfig(), torch.float32)
        advance(optimizer, range(steps))
        return optimizer

    def advance(optimizer: MasterAdamW, steps: range) -> None:
        for step in steps:
            torch.manual_seed(step)
            for p in optimizer.parameters.values():
                p.grad = torch.randn_like(p)
            optimizer.step(1e-2)
            optimizer.clear()

    whole, packed = updated(MasterAdamW, 4), updated(EightBitAdamW, 4)
    assert packed.first["matrix"].dtype == torch.uint8
    assert packed.first["bias"].dtype == torch.float32
    start = updated(MasterAdamW, 0).masters["matrix"]
    moved = (whole.masters["matrix"] - start).norm()
    assert 0 < (packed.masters["matrix"] - whole.masters["matrix"]).norm() < 0.1 * moved
    again = updated(EightBitAdamW, 0)
    copies = {name: tensor.clone() for name, tensor in packed.state().items()}
    masters = {name: tensor.clone() for name, tensor in packed.masters.items()}
    again.load(masters, copies, lambda target, value: target.copy_(value) if value is not None else None)
    advance(packed, range(4, 6))
    advance(again, range(4, 6))
    assert torch.equal(again.masters["matrix"], packed.masters["matrix"])
