"""What is promised, and what the stored races say of it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.results import Spread

REASONS = Path(__file__).parent / "reasons.json"  # key of a claim -> why it stands as it stands, by hand
ENCODING, SERVING, MILLION = "encode_rows", "serve", 10**6
Stored = dict[str, Any]  # race, encode_rows or serve -> what its file holds


@dataclass(frozen=True)
class Claim:
    """A number read from stored races, and the bound that it should keep; `read` gives None if it was not measured."""

    key: str
    what: str
    read: Callable[[Stored], Spread | None]
    at_least: float | None = None
    at_most: float | None = None
    unit: str = "x"

    def target(self) -> str:
        bound, sign = (self.at_least, "≥") if self.at_least is not None else (self.at_most, "≤")
        return f"{sign} {bound:g} {self.unit}".strip()

    def met(self, found: Spread) -> bool:
        return found.median >= (self.at_least or 0) and found.median <= (self.at_most or float("inf"))

    def show(self, found: Spread) -> str:
        if 0 < found.median < 1e-4:
            return f"{found.median:.0e} {self.unit}"
        digits = 5 if found.median < 0.01 else 2 if found.median < 1000 else 0
        same = found.low == found.high
        return f"{found.median:.{digits}f} {self.unit}" if same else f"{found.show(digits)} {self.unit}"


def ratio(race: str, slower: str, faster: str) -> Callable[[Stored], Spread | None]:
    """How many times as long `slower` takes as `faster`."""
    return lambda stored: results.ratio(stored[race]["rounds"], slower, faster) if race in stored else None


def peak(race: str, contestant: str) -> Callable[[Stored], Spread | None]:
    return lambda stored: results.peak(stored[race]["rounds"], contestant) if race in stored else None


def apart(race: str, one: str, other: str) -> Callable[[Stored], Spread | None]:
    """The largest difference between two loss curves."""

    def read(stored: Stored) -> Spread | None:
        curves = [_of(stored, race, who, "losses") for who in (one, other)]
        if None in curves:
            return None
        return results.spread([max(abs(a - b) for a, b in zip(*curves, strict=True))])

    return read


def validation_apart(race: str, one: str, other: str) -> Callable[[Stored], Spread | None]:
    """The difference between two validation losses at the end."""

    def read(stored: Stored) -> Spread | None:
        a, b = (_of(stored, race, who, "validation_loss") for who in (one, other))
        return None if a is None or b is None else results.spread([abs(a - b)])

    return read


def encoding(table: str, stage: str) -> Callable[[Stored], Spread | None]:
    """A figure of encoding a million rows, over the kinds of files, each into an empty cache."""

    def read(stored: Stored) -> Spread | None:
        first = {kind: told for kind, _, told in reversed(encodings(stored)) if told["rows"] == MILLION}
        return results.spread([told[table][stage] for told in first.values()]) if first else None

    return read


def encodings(stored: Stored) -> list[tuple[str, str, dict[str, Any]]]:
    """List (kind of file, which run on it, what was measured) in the order in which they ran."""
    found = stored.get(ENCODING, [])
    files = (
        found["files"] if isinstance(found, dict) else found
    )  # the first measurement is a list, and names no machine
    return [
        (told["kind"], name, measured)
        for told in files
        for name, measured in told.items()
        if isinstance(measured, dict)
    ]


def serving(figure: str, server: str = "heedful") -> Callable[[Stored], Spread | None]:
    """A figure of a server: the median of each of its processes."""
    return lambda stored: results.spread(_served(stored, server, figure)) if SERVING in stored else None


def serving_ratio(
    figure: str, than: str, server: str = "heedful", other: str = "heedful"
) -> Callable[[Stored], Spread | None]:
    """How many times a server's figure is another one's, or another server's, round by round."""

    def read(stored: Stored) -> Spread | None:
        if SERVING not in stored:
            return None
        pairs = zip(_served(stored, server, figure), _served(stored, other, than), strict=True)
        return results.spread([a / b for a, b in pairs])

    return read


def growth(stored: Stored) -> Spread | None:
    """How many times as large the server is after all requests as after half of them."""
    if SERVING not in stored:
        return None
    sizes = stored[SERVING]["endurance"]["resident_bytes"]
    return results.spread([sizes[-1] / sizes[len(sizes) // 2]])


def _served(stored: Stored, server: str, figure: str) -> list[float]:
    rounds = [each[figure] for each in stored[SERVING]["rounds"][server]]
    return [statistics.median(found) if isinstance(found, list) else found for found in rounds]


def _of(stored: Stored, race: str, contestant: str, key: str) -> Any:
    return stored[race]["rounds"][0].get(contestant, {}).get(key) if race in stored else None


def load_reasons() -> dict[str, str]:
    reasons: dict[str, str] = json.loads(REASONS.read_text(encoding="utf-8"))
    return reasons


GIB = "GiB"
TREE, ALL, FP32, ALL_FP32 = (f"heedful tree{more}" for more in ("", ", all tokens", ", fp32", ", all tokens, fp32"))
CLAIMS = [
    Claim("gpt2_all", "GPT-2 124M, all tokens, vs tutorial", ratio("gpt2", "tutorial", ALL), 8),
    Claim("gpt2_response", "GPT-2 124M, response loss, vs tutorial", ratio("gpt2", "tutorial", TREE), 10),
    Claim("smollm2_response", "SmolLM2-135M, response loss, vs tutorial", ratio("smollm2", "tutorial", TREE), 10),
    Claim("trl", "SmolLM2-135M, response loss, vs TRL at its best", ratio("smollm2", "trl", TREE), 5),
    Claim("gpt2_all_fp32", "GPT-2 124M, all tokens, fp32 alone, vs tutorial", ratio("gpt2", "tutorial", ALL_FP32), 4),
    Claim("gpt2_fp32", "GPT-2 124M, response loss, fp32 alone, vs tutorial", ratio("gpt2", "tutorial", FP32), 4),
    Claim(
        "smollm2_fp32", "SmolLM2-135M, response loss, fp32 alone, vs tutorial", ratio("smollm2", "tutorial", FP32), 4
    ),
    Claim(
        "document",
        "one long document, 8 questions, tree vs own padded",
        ratio("one_document", "heedful padded", TREE),
        4,
    ),
    Claim(
        "documents",
        "24 long documents, 8 questions each, shuffled and grouped, tree vs own padded",
        ratio("many_documents", "heedful padded", TREE),
        4,
    ),
    Claim("floor", "update vs its matmul floor", ratio("floor", TREE, "matmul floor"), at_most=2),
    Claim("answers_tutorial", "answers for the test prompts vs tutorial", ratio("answers", "tutorial", "heedful"), 100),
    Claim(
        "answers_transformers",
        "answers for the test prompts vs transformers at its best batch",
        ratio("answers", "transformers at its best", "heedful"),
        2,
    ),
    Claim(
        "stream", "one stream vs transformers generate, bf16", ratio("stream", "transformers, bf16", "heedful, bf16"), 2
    ),
    Claim(
        "stream_fp32",
        "one stream vs transformers generate, fp32",
        ratio("stream", "transformers, fp32", "heedful, fp32"),
        2,
    ),
    Claim("llama_bf16", "one stream vs llama.cpp, both bf16", ratio("stream", "llama.cpp, bf16", "heedful, bf16"), 0.8),
    Claim("llama_f32", "one stream vs llama.cpp, both fp32", ratio("stream", "llama.cpp, f32", "heedful, fp32"), 0.8),
    Claim("memory", "peak memory, full fine-tuning of the 135M model", peak("smollm2", TREE), at_most=3.0, unit=GIB),
    Claim("memory_lora", "peak memory, LoRA", peak("smollm2", "heedful lora"), at_most=1.5, unit=GIB),
    Claim("encoding", "encoding 1,000,000 alpaca rows", encoding("rows_a_second", "both"), 10_000, unit="rows/s"),
    Claim(
        "encoding_memory",
        "peak memory of encoding 1,000,000 rows",
        encoding("peak_mib", "encode"),
        at_most=1024,
        unit="MiB",
    ),
    Claim(
        "curve_layout",
        "largest difference of the loss over 50 steps, tree vs padded, fp32",
        apart("curves", FP32, "heedful padded, fp32"),
        at_most=1e-4,
        unit="nats",
    ),
    Claim(
        "curve_precision",
        "difference of the final validation loss, bf16 vs fp32",
        validation_apart("curves", TREE, FP32),
        at_most=0.01,
        unit="nats",
    ),
    Claim(
        "serve_first",
        "server, first token on an idle one, 60-token prompt",
        serving("first_token_seconds"),
        at_most=0.15,
        unit="s",
    ),
    Claim(
        "serve_streams",
        "server, tokens/s of 8 streams vs one",
        serving_ratio("8_streams_tokens_per_s", "one_stream_tokens_per_s"),
        4,
    ),
    Claim("serve_ready", "server, start to ready", serving("ready_seconds"), at_most=5, unit="s"),
    Claim("serve_memory", "server, memory after 1,000 requests vs after 500", growth, at_most=1.05),
]
IN_FP32_TOO = (
    "trl", "document", "documents", "floor", "answers_tutorial", "answers_transformers", "memory", "memory_lora",
    "curve_layout", "serve_first", "serve_streams", "serve_ready", "serve_memory",
)  # fmt: skip
CLAIMS_IN_FP32 = [  # of processors without native bf16, where the contestants are those of `races.in_fp32`
    Claim("alone_gpt2_all", "GPT-2 124M, all tokens, vs tutorial", ratio("gpt2", "tutorial", ALL), 4),
    Claim("alone_gpt2", "GPT-2 124M, response loss, vs tutorial", ratio("gpt2", "tutorial", TREE), 4),
    Claim("alone_smollm2", "SmolLM2-135M, response loss, vs tutorial", ratio("smollm2", "tutorial", TREE), 4),
    Claim(
        "alone_stream",
        "one stream vs transformers generate",
        ratio("stream", "transformers, fp32", "heedful, fp32"),
        2,
    ),
    Claim("alone_llama", "one stream vs llama.cpp", ratio("stream", "llama.cpp, fp32", "heedful, fp32"), 0.8),
    *(replace(claim, key=f"alone_{claim.key}") for claim in CLAIMS if claim.key in IN_FP32_TOO),
]
