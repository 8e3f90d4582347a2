"""docs/benchmarks.md from the stored races: every figure but those in reasons.json is computed here from their JSON."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.claims import (
    CLAIMS,
    CLAIMS_IN_FP32,
    ENCODING,
    SERVING,
    Claim,
    Stored,
    encodings,
    load_reasons,
    serving,
    serving_ratio,
)
from benchmarks.earlier import COMPARED
from benchmarks.races import RACES, UPDATE, Race, in_fp32
from benchmarks.workload import OF_MADE_ROWS, WORKLOADS

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
SERVED = (
    ("ready_seconds", "seconds to ready", 1),
    ("first_answer_seconds", "seconds from start to the end of a first answer", 1),
    ("first_token_seconds", "seconds to the first text", 3),
    ("one_stream_tokens_per_s", "tokens/s, one stream", 1),
    ("8_streams_tokens_per_s", "tokens/s, 8 streams", 0),
)
HEAD = """\
# Benchmarks

This page is written by `python -m benchmarks.document` from the JSON in `benchmarks/results/`, which holds every number
of its tables but those in the column *reason*: profiles and counts, written by hand (`benchmarks/reasons.json`).
`make bench` runs the races that are missing there, and anew those stored of another machine, other data, versions or
code, whose figures it replaces; then it writes the page again. `make bench-encode` and `make bench-serve` measure
encoding and serving; `make bench-quick` shows on tiny models that the races run.

Contestants take turns (A B C A B C ...), each time in a fresh process, pinned to the same cores and threads. Each
warms up on the first updates and is timed on the next; a round's figure is the median of those. A ratio is taken within
a round, and what is shown is the median over the rounds with the least and the most. All train on the same rows in the
same order, eight an update, and the tokens learned an update stand beside the seconds, so that nobody wins by learning
less. A trainer's clock runs from the end of an update to the end of the next; heedful's own, which is read from its
metrics, leaves out the line that it logs and its progress bar. Answers are timed by the token, stop tokens counted;
those who would take minutes answer every fourth or every tenth prompt.

**The tutorial's loop** is what introductions to fine-tuning teach: batches of 8 rows padded to the longest, everything
in fp32, logits at every position, every token learned (the prompt's too), PyTorch's AdamW as it comes, not its fused
one (`benchmarks/contestants/tutorial_training.py`). To answer, it computes the whole text again for each token
(`benchmarks/contestants/tutorial_answers.py`).

**The 1,100 rows** (`instruction-data.json`) are a public file of 1,100 instruction/input/output rows that such a
tutorial trains on. In file order 935 are for training, 110 for testing and 55 for validation. The file does not ship
with heedful: `make bench DATA=instruction-data.json SPLIT=in_order` takes it from wherever you have it, or any other
file; without `DATA` the races run on the rows that ship.
"""
NO_MACHINE_ENCODING = """\
The stored file (`encode_rows.json`) does not name its machine: it was written before the program recorded it. It was
stored on the same day as the race smollm2 below, whose file names the Xeon. No model computes here."""
NO_MACHINE_SERVING = """\
The stored file (`serve.json`) names neither machine nor precision: it was written before the program recorded them. It
was stored together with the race smollm2 below, whose file names the Xeon. The peer was started in bf16 (`--dtype`),
and heedful serves in bf16 where the processor multiplies it."""

EARLIER = """\
## Earlier code

The races above name the commits that they are of. Here an earlier commit and a later one take turns update by update
(or answer by answer), both loaded at once (`python -m benchmarks.earlier`): the median ratio of the pairs, and its
quartiles. Above 1 the later one is faster.

"""

IN_FP32 = """\
# Without native bf16

The same races on processors that gain nothing by bf16, where everybody computes in fp32. Each race names its own.
"""


def page(folder: Path = results.FOLDER) -> str:
    """Write the page from what is stored in a folder, and in its folder `fp32`."""
    stored = _stored([race.name for race in RACES], folder)
    told = stored | _stored([ENCODING, SERVING], folder)
    parts = [HEAD, _machine(stored), _claims(told, CLAIMS), _encoding(told), _serving(told)]
    named = len({repr(found["machine"]) for found in stored.values()}) > 1
    parts += [_race(race, stored.get(race.name), named) for race in RACES]
    parts += _earlier(folder)
    if alone := _stored([race.name for race in RACES], folder / results.FP32.name):
        told = alone | _stored([SERVING], folder / results.FP32.name)
        parts += [IN_FP32, _machine(alone), _claims(told, CLAIMS_IN_FP32), _serving(told)]
        parts += [_race(in_fp32(race), alone[race.name], named=True) for race in RACES if race.name in alone]
        parts += _earlier(folder / results.FP32.name)
    return "\n".join(parts)


def _stored(names: list[str], folder: Path) -> Stored:
    return {name: found for name in names if (found := results.load(name, folder)) is not None}


def _machine(stored: Stored) -> str:
    """Name each machine and set of versions that the figures come from."""
    lines = []
    for found in {repr((f["machine"], f["versions"])): f for f in stored.values()}.values():
        lines.append(_described(found))
    return "## Where it was measured\n\n" + ("\n\n".join(lines) or "Nothing is stored yet.") + "\n"


def _described(found: dict[str, Any]) -> str:
    m, versions = found["machine"], ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return f"{m['processor']}, {m['cores']} cores ({', '.join(m['flags'])}), {m['memory_gib']} GiB; {versions}."


def _claims(stored: Stored, claims: list[Claim]) -> str:
    reasons = load_reasons()
    rows = []
    for claim in claims:
        found = claim.read(stored)
        result = "not measured yet" if found is None else claim.show(found)
        met = "" if found is None else "yes" if claim.met(found) else "**no**"
        rows.append([claim.what, claim.target(), result, met, reasons.get(claim.key, "")])
    return "## Targets\n\n" + _table(["what", "target", "result", "met", "reason"], rows)


def _encoding(stored: Stored) -> str:
    """Show each measurement of benchmarks/encode_rows.py: by file, first with an empty cache, last from a full one."""
    title = "## Encoding many rows\n\n"
    if ENCODING not in stored:
        return f"{title}Not measured yet: `make bench-encode`.\n"
    rows = [
        [
            f"{kind}, {name}",
            f"{told['rows']:,}",
            *(f"{told['rows_a_second'][stage]:,}" for stage in ("read_and_curate", "encode", "both")),
            f"{told['peak_mib']['encode']:,}",
        ]
        for kind, name, told in encodings(stored)
    ]
    columns = ["file, template", "rows", "rows/s read and curated", "rows/s encoded", "rows/s in all", "peak MiB"]
    found = stored[ENCODING]
    where = _described(found) if "machine" in found else NO_MACHINE_ENCODING
    return f"{title}{where}\n\n{_table(columns, rows)}"


def _serving(stored: Stored) -> str:
    """Show each server's figures, and how ours compares."""
    title = "## Servers\n\n"
    if SERVING not in stored:
        return f"{title}Not measured yet: `python -m benchmarks.serve`.\n"
    found = stored[SERVING]
    ours, peer = found["rounds"]
    rows = []
    for figure, what, digits in SERVED:
        against = serving_ratio(figure, figure, ours, peer)(stored)
        figures = [serving(figure, server)(stored) for server in (ours, peer)]
        rows.append([what, *(each.show(digits) for each in figures if each), against.show() if against else ""])
    sizes = ", ".join(f"{size / 2**20:,.0f}" for size in found["endurance"]["resident_bytes"])
    endured = found["endurance"]
    processes, kind = len(found["rounds"][ours]), found.get("kind", "bf16")
    before = f"{found['model']} in {kind}, {processes} processes of each in turn, prompts of about 60 tokens, "
    before += f"answers of up to 128. `{peer} serve` runs with continuous batching.\n\n"
    before += (_described(found) if "machine" in found else NO_MACHINE_SERVING) + "\n\n"
    after = f"\n{endured['requests']:,} requests one after another, {endured['abandoned']} left by their clients: "
    after += f"{sizes} MiB resident at the start and after each tenth.\n"
    return title + before + _table(["", ours, f"{peer} serve", f"{ours} / {peer}"], rows) + after


def _earlier(folder: Path) -> list[str]:
    """Show by how much a later commit's units are faster than an earlier one's, within each pair."""
    found = results.load(COMPARED, folder)
    if found is None:
        return []
    rows = []
    for one in found["compared"]:
        before, now = (one["seconds"][side] for side in ("earlier", "now"))
        ratios = sorted(b / n for b, n in zip(before, now, strict=True))
        low, middle, high = statistics.quantiles(ratios, n=4)
        medians = [f"{statistics.median(seconds):.4f}" for seconds in (before, now)]
        ratio = f"{middle:.3f} ({low:.3f} - {high:.3f})"
        rows.append([one["workload"], one["earlier"], one["now"], *medians, ratio, str(len(ratios))])
    columns = ["workload", "earlier", "later", "seconds, earlier", "seconds, later", "earlier / later", "pairs"]
    return [EARLIER + _table(columns, rows)]


def _race(race: Race, found: dict[str, Any] | None, named: bool = False) -> str:
    """Show a race, with its processor `named` where a section's races are of several."""
    title = f"## Race: {race.name}\n\n{WORKLOADS[race.workload].__doc__}\n\n"
    if found is None:
        return f"{title}Not measured yet: `python -m benchmarks.run --only {race.name}`.\n"
    s = found["settings"]
    first = next(who for who in [*found["contestants"], ""] if not who or results.figures(found["rounds"], who))
    rows = [_contestant(found["rounds"], first, label) for label in found["contestants"]]
    rows_of = "Made rows" if race.workload in OF_MADE_ROWS else f"Rows of {s['data']} ({s['split']})"
    said = f"{rows_of}, {s['threads']} threads, {len(found['rounds'])} rounds. Seconds per {found['unit']}."
    said += f" {found['machine']['processor']}." * named
    if found.get("commit"):
        said += f" heedful at commit {found['commit']}."
    if found["unit"] == UPDATE:
        said += f" {s['warm_up']} updates to warm up, the next {s['measured']} timed."
    if any(each.best_of == race.name for other in RACES for each in other.contestants.values()):
        said += f" A search: the other races use what was fastest, **{results.winner(found)}**."
    if any(settings.get("only_shown") for settings in found["contestants"].values()):
        said += " Shown, and not chosen: what learns other tokens, packed updates (they hold other rows; their seconds"
        said += " are scaled to 8), and settings of the C library, which are no peer's own."
    columns = ["contestant", "seconds", f"{first} / this", "peak GiB", "learned", "same answers"]
    return f"{title}{said}\n\n{_table(columns, rows)}"


def _contestant(rounds: results.Rounds, first: str, label: str) -> list[str]:
    figures = results.figures(rounds, label)
    against, memory = results.ratio(rounds, first, label), results.peak(rounds, label)
    if not figures or against is None or memory is None:
        why = next((r[label]["left_out"] for r in rounds if "left_out" in r.get(label, {})), "not run")
        return [label, f"left out: {why}", "", "", "", ""]
    ran = next(r[label] for r in rounds if "seconds" in r.get(label, {}))
    learned = f"{statistics.mean(ran['targets']):.0f}" if "targets" in ran else ""
    equal = results.same_answers(rounds, first, label)
    return [
        label,
        results.spread(figures).show(4),
        against.show(),
        f"{memory.median:.2f}",
        learned,
        "" if equal is None else f"{100 * equal:.0f} %",
    ]


def _table(columns: list[str], rows: list[list[str]]) -> str:
    """Write a Markdown table without the columns that are empty in every row."""
    kept = [i for i in range(len(columns)) if i == 0 or any(row[i] for row in rows) or columns[i] == "reason"]
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line[i] for i in kept) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE} written", file=sys.stderr)
