"""The compiled inner loops against torch in double precision, and what happens where nothing can be compiled."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers.activations import SiLUActivation

from heedful import kernels
from heedful.generate import operations
from heedful.generate.linear import Product, has_compiled_product

PROTOTYPE = re.compile(r"^void (?:NAME\()?(\w+?)(?:_bf16|_fp32)?\)?\(([^)]*)\)", re.MULTILINE)  # NAME adds the kind
pytestmark = pytest.mark.skipif(kernels.compiled() is None, reason="there is no C compiler")
ROUNDING = {torch.bfloat16: 2**-8, torch.float32: 2**-21}
TYPES = list(ROUNDING)


def drawn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def close(ours: torch.Tensor, theirs: torch.Tensor, terms: float = 1.0) -> bool:
    """Within the rounding of the numbers, and of a sum of some terms."""
    scale = theirs.double().abs().max()
    return bool((ours.double() - theirs.double()).abs().max() <= scale * (ROUNDING[ours.dtype] + terms * 2**-22))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("out", "width"), [(64, 32), (100, 96), (130, 50), (17, 576)])
def test_a_product_is_right_and_no_row_notices_the_others(dtype: torch.dtype, out: int, width: int) -> None:
    weight, bias = drawn(out, width, dtype=dtype), drawn(out, dtype=dtype, seed=1)
    if not has_compiled_product(weight):
        pytest.skip("this processor has no bf16 tiles")
    product = Product(weight, bias)
    for rows in (1, 2, 5, 6, 7, 16, 17, 31, 32, 33, 100):
        x, more = drawn(rows, width, dtype=dtype, seed=rows), drawn(rows, out, dtype=dtype, seed=rows + 1)
        y = product(x, more)
        assert close(y, x.double() @ weight.double().T + bias.double() + more.double(), terms=width)
        alone = [product(x[r : r + 1].contiguous(), more[r : r + 1].contiguous()) for r in range(rows)]
        assert torch.equal(y, torch.cat(alone))
    assert close(Product(weight, None)(x), x.double() @ weight.double().T, terms=width)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [8, 30, 576])
def test_norms_are_those_of_torch(dtype: torch.dtype, width: int) -> None:
    x = drawn(11, width, dtype=dtype) + 2
    layer = nn.LayerNorm(width, eps=1e-3)
    layer.weight.data, layer.bias.data = drawn(width, seed=1), drawn(width, seed=2)
    wide = [t.detach().to(dtype).double() for t in (layer.weight, layer.bias)]
    assert close(operations.norm(layer, dtype)(x), F.layer_norm(x.double(), (width,), *wide, 1e-3), terms=width)
    rms = nn.RMSNorm(width)
    rms.weight.data, rms.variance_epsilon = drawn(width, seed=3), 1e-3
    scale = rms.weight.detach().to(dtype).double()
    assert close(operations.norm(rms, dtype)(x), F.rms_norm(x.double(), (width,), scale, 1e-3), terms=width)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [8, 64, 72])
def test_heads_are_normalised_and_turned_each_by_itself(dtype: torch.dtype, width: int) -> None:
    heads, weight = drawn(5, 7, width, dtype=dtype), drawn(4, width, dtype=dtype, seed=1)
    angles = drawn(9, width // 2, seed=2)
    positions = torch.tensor([3, 0, 8, 1, 1])
    expected = heads.double()
    expected[:, :4] = F.rms_norm(expected[:, :4], (width,), eps=1e-5) * weight.double()
    ours = heads.clone()
    operations.norm_heads(weight, 1e-5)(ours)
    assert close(ours, expected, terms=width)
    left, right = ours.double()[:, :4].chunk(2, -1)
    cos, sin = angles.cos().double()[positions][:, None], angles.sin().double()[positions][:, None]
    turned = torch.cat([left * cos - right * sin, right * cos + left * sin], -1)
    untouched = ours[:, 4:].clone()
    operations.apply_rope(ours, 4, (angles.cos(), angles.sin()), positions)
    assert close(ours[:, :4], turned)
    assert torch.equal(ours[:, 4:], untouched)


@pytest.mark.parametrize("dtype", TYPES)
def test_the_gate_is_silu(dtype: torch.dtype) -> None:
    x = torch.cat([drawn(6, 2 * 50, dtype=dtype), torch.tensor([[-200.0, -90.0, 0.0, 90.0, 200.0] * 20]).to(dtype)])
    gate, up = x.double().chunk(2, -1)
    for act in (nn.SiLU(), SiLUActivation()):
        assert close(operations.gated(act, x), F.silu(gate) * up)
    assert close(operations.gated(nn.GELU(), x), F.gelu(gate) * up, terms=50)  # torch's


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [8, 64, 72])
def test_a_row_attends_to_its_own_places_alone(dtype: torch.dtype, width: int) -> None:
    rows, columns, queries, kv = 4, 70, 6, 2
    heads = drawn(rows, queries + 2 * kv, width, dtype=dtype)
    cache = drawn(rows, columns, 2, kv, width, dtype=dtype, seed=1)
    positions = torch.tensor([0, 69, 17, 32])
    cache[0, 1:] = torch.nan  # behind the row's place
    before = cache.clone()
    ours = operations.attend_in_place(heads, cache, positions, queries, 0.3)
    for r, place in enumerate(positions.tolist()):
        assert torch.equal(cache[r, place].flatten(0, 1), heads[r, queries:])
        assert torch.equal(cache[r, :place], before[r, :place])
        keys, values = cache[r, : place + 1].double().permute(1, 2, 0, 3).repeat_interleave(queries // kv, 1)
        weights = (torch.einsum("hd,hpd->hp", heads[r, :queries].double(), keys) * 0.3).softmax(-1)
        assert close(ours[r], torch.einsum("hp,hpd->hd", weights, values).flatten(), terms=64)


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_without_a_compiler_answers_are_torch_s(compiler: str, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "false").symlink_to("/bin/false")
    script = (
        "import torch; from heedful import kernels; from heedful.generate.linear import Linear;"
        "weight = torch.ones(3, 4); assert kernels.compiled() is None; assert not kernels.multiplies_bf16();"
        "print(Linear([weight], [None], torch.float32)(torch.ones(2, 4), (2,)).tolist())"
    )
    environment = os.environ | {"PATH": str(tools), "CC": compiler, "HEEDFUL_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[[4.0, 4.0, 4.0], [4.0, 4.0, 4.0]]"


def test_ctypes_is_told_what_the_functions_take() -> None:
    """A pointer declared as a whole number would lose its upper half where longs have 32 bits."""
    letters = {"long": "i", "float": "f"}
    prototypes = {
        (name, "".join("p" if "*" in taken else letters[taken.split()[0]] for taken in parameters.split(",")))
        for path in sorted(kernels.HERE.glob("*.[ch]"))
        for name, parameters in PROTOTYPE.findall(path.read_text(encoding="utf-8"))
    }
    assert prototypes == {(name, f"{taken}i") for name, taken in kernels.SIGNATURES.items()}
