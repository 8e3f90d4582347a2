"""Adapters alone learn, in the same layers of every family, and merge into the weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from tests.models import plain_tokenizer, tiny_model
from tests.train.sessions import session

from heedful.config import TrainConfig
from heedful.encode.prompt_receipt import PROMPT_RECEIPT
from heedful.errors import RunError
from heedful.model.adapters import adapt
from heedful.model.pretrained import load
from heedful.settings import load_config
from heedful.train.estimate import estimate
from heedful.train.result import write_model

SPARSE = ("mixtral", "qwen2_moe", "deepseek_v3", "llama4_text")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it
@pytest.mark.parametrize("kind", ["llama", "gpt2", *SPARSE])
def test_adapters_alone_learn_and_merge(tmp_path: Path, kind: str) -> None:
    trained = session(tmp_path / kind, "train.method=lora", "train.lr=0.05", "train.keep=last", kind=kind)
    assert all("lora_" in name for name in trained.learner.parameters)
    parts = [set(name.split(".")) for name in trained.learner.parameters]
    assert not any({"lm_head", "router", "gate"} & part for part in parts)
    assert any("experts" in part for part in parts) == (kind in SPARSE)
    model = trained.learner.model
    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    before = {n: p.clone() for n, p in trained.learner.parameters.items()}
    trained.fit()
    assert all(torch.equal(p, frozen[n]) for n, p in model.named_parameters() if n in frozen)
    assert all(not torch.equal(p, before[n]) for n, p in trained.learner.parameters.items())
    ids = torch.arange(40)[None]
    with torch.no_grad():
        adapted = model.eval()(input_ids=ids).logits
    write_model(trained)
    merged = load(str(trained.run.model)).model
    assert not any("lora" in name for name, _ in merged.named_parameters())
    with torch.no_grad():
        logits = merged(input_ids=ids).logits
        plain = tiny_model(kind, initializer_range=0.1)(input_ids=ids).logits
    base = tiny_model(kind, initializer_range=0.1)
    with torch.no_grad():
        beside = PeftModel.from_pretrained(base, str(trained.run.adapter)).eval()(input_ids=ids).logits
    assert float((beside - adapted).abs().max() / adapted.abs().max()) < 1e-5
    assert float((logits - adapted).abs().max() / adapted.abs().max()) < 1e-5
    assert float((plain - adapted).abs().max() / adapted.abs().max()) > 1e-2
    assert (trained.run.model / PROMPT_RECEIPT).is_file()


@pytest.mark.parametrize("kind", SPARSE)
def test_adapters_are_of_the_same_layers_in_all_models_of_experts(kind: str) -> None:
    """Of rank `lora_rank` for each expert; each matrix but the head, the embeddings and what routes."""
    model = tiny_model(kind)
    skipped = {"lm_head", "embed_tokens", "gate", "router"}
    matrices = {n: p.shape for n, p in model.named_parameters() if p.ndim > 1 and not skipped & set(n.split("."))}
    config = TrainConfig(method="lora", lora_rank=3)
    learned = [p for p in adapt(model, config).parameters() if p.requires_grad]
    expected = sum(3 * (shape[0] if len(shape) == 3 else 1) * sum(shape[-2:]) for shape in matrices.values())
    assert sum(p.numel() for p in learned) == expected
    assert estimate(tiny_model(kind).config, config, "fp32").gradients == 4 * expected


def test_an_adapter_names_its_layers_as_other_tools_expect() -> None:
    found = adapt(tiny_model("llama"), TrainConfig(method="lora")).peft_config["default"].target_modules
    assert found == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_new_tokens_get_embeddings_and_no_adapters(tmp_path: Path) -> None:
    trained = session(tmp_path / "run", tokenizer=plain_tokenizer(), eos_token_id=256)
    model = trained.learner.model
    assert model.get_input_embeddings().weight.shape[0] == 261
    trained.fit()
    for rows in (259, 300):  # also where the model has rows to spare
        with pytest.raises(RunError, match="adds 2 tokens"):
            session(tmp_path / f"lora-{rows}", "train.method=lora", tokenizer=plain_tokenizer(), vocab_size=rows)


def test_settings_of_adapters_need_adapters() -> None:
    from heedful.errors import UsageError

    with pytest.raises(UsageError, match=r"train.lora_rank has no meaning"):
        load_config(None, ["train.lora_rank=8"])
    assert load_config(None, ["train.lora_rank=8", "train.method=lora"]).train.lora_rank == 8
