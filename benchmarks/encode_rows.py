"""How fast rows are read, curated and encoded, and how much memory that takes: alpaca rows made from a seed.

    python -m benchmarks.encode_rows --rows 100000 1000000 --kinds json jsonl --templates own alpaca

Each measurement runs in a process of its own. The first template finds an empty cache, the others find the rows read
and curated, and `again` finds everything. Prints JSON: the machine and versions, and for each file seconds, rows a
second, and the peak of resident memory in MiB, when the tokenizer is loaded (`idle`), after reading, and at the end.
No model computes here, so there is no precision to name.
"""

from __future__ import annotations

import argparse
import importlib.resources
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import machine, versions

SCRATCH = Path(".bench")


def write_rows(path: Path, rows: int, seed: int) -> None:
    """Write rows as long as the reference data's: 46 characters, 26 more in 30 % of them, and 48 to answer."""
    choose = random.Random(seed)
    shipped = importlib.resources.files("heedful.data.builtin") / "en.json"
    words = sorted(set(re.findall(r"[a-z']{2,}", shipped.read_text(encoding="utf-8"))))

    def text(characters: int) -> str:
        count = max(2, round(choose.gauss(characters / 6, characters / 24)))
        return " ".join(choose.choices(words, k=count)).capitalize() + "."

    array = path.suffix == ".json"
    with open(path, "w", encoding="utf-8") as file:
        for number in range(rows):
            extra = text(26) if choose.random() < 0.3 else ""
            row = json.dumps({"instruction": text(46), "input": extra, "output": text(48)}, indent=1 if array else None)
            file.write(("[\n" if number == 0 else ",\n") * array + row + "\n" * (not array))
        file.write("\n]\n" * array)


def measure(path: str, model: str, template: str) -> dict[str, Any]:
    """Read, curate and encode in this process."""
    from heedful import data
    from heedful.encode.prepare import prepare
    from heedful.model import pretrained
    from heedful.settings import load_config

    config = load_config(None, {"data.path": path, "model.name": model, "encode.template": template})
    tokenizer, model_config, _ = pretrained.load_tokenizer(model)
    idle, started = _peak(), time.perf_counter()
    splits, receipt = data.load_splits(config.data)
    loaded, read_peak = time.perf_counter(), _peak()
    ready = prepare(config, splits, receipt.as_dict(), tokenizer, pretrained.max_positions(model_config))
    done = time.perf_counter()
    encoded, counts = len(ready.train) + len(ready.validation), ready.receipt["encoding"]
    return {
        "rows": receipt.read,
        "encoded": encoded,
        "tokens_a_row": round(
            sum(counts[f"{part}_tokens"]["sum"] for part in ("prompt", "answer")) / counts["rows"], 1
        ),
        "seconds": {"read_and_curate": round(loaded - started, 2), "encode": round(done - loaded, 2)},
        "rows_a_second": {
            "read_and_curate": round(receipt.read / (loaded - started)),
            "encode": round(encoded / (done - loaded)),
            "both": round(receipt.read / (done - started)),
        },
        "peak_mib": {"idle": idle, "read_and_curate": read_peak, "encode": _peak()},
        "near_duplicates": receipt.near_duplicates,
        "fingerprint": ready.fingerprint()[:16],
    }


def _peak() -> int:
    """Return the peak of resident memory of this process and of its largest child, in MiB."""
    return sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) >> 10


def run(path: Path, home: Path, model: str, template: str) -> dict[str, Any]:
    """Measure in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.encode_rows", "--measure", str(path), "--model", model]
    command += ["--templates", template]
    done = subprocess.run(command, env={**os.environ, "HEEDFUL_HOME": str(home)}, stdout=subprocess.PIPE, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--kinds", nargs="+", default=["json", "jsonl"])
    parser.add_argument("--templates", nargs="+", default=["own", "alpaca"])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", metavar="FOLDER", help="where the rows are written, and found again")
    parser.add_argument("--measure", metavar="FILE", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(asked.measure, asked.model, asked.templates[0])))
        return
    from heedful.system.store import cache_home

    files = []
    for rows in asked.rows:
        for kind in asked.kinds:
            with tempfile.TemporaryDirectory() as folder:
                path, home = Path(asked.keep or folder) / f"rows-{rows}.{kind}", Path(folder) / "home"
                if not path.exists():
                    write_rows(path, rows, asked.seed)
                home.mkdir()
                (home / "models").symlink_to(cache_home() / "models")
                told: dict[str, Any] = {"kind": kind, "megabytes": path.stat().st_size // 10**6}
                for name, template in [
                    *zip(asked.templates, asked.templates, strict=True),
                    ("again", asked.templates[0]),
                ]:
                    told[name] = run(path, home, asked.model, template)
                    print(json.dumps({name: told[name]}), file=sys.stderr, flush=True)
                files.append(told)
    print(json.dumps({"machine": machine(), "versions": versions(SCRATCH), "files": files}, indent=1))


if __name__ == "__main__":
    main()
