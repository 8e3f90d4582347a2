"""An export -> a repository of a Hugging Face hub: private unless asked otherwise, and only what was verified."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedful.errors import ExportError, UsageError, typed
from heedful.run import EXPORT_RECEIPT, Run, open_run
from heedful.system.atomic import changed_file, read_json

TIMEOUT = 60.0  # seconds without a byte from the hub
# what the library raises at an answer that is no hub's
UNEXPECTED = (json.JSONDecodeError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True)
class Shipment:
    """What would be sent, and whereto; sizes are in bytes."""

    folder: Path
    files: dict[str, int]
    repository: str
    public: bool


def pack(place: Path, repository: str, public: bool) -> Shipment:
    """Find a run's one export, or take the one that is named; refuse what changed since it was verified."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UsageError(f"--to {repository} is not a repository.", "Write it as owner/name.")
    folder = _export_of(place)
    receipt = read_json(folder / EXPORT_RECEIPT, "Export again with --force.")
    if changed := changed_file(folder, receipt["files"]):
        raise ExportError(f"{folder / changed} is not the file that was verified.", "Export again with --force.")
    names = [*receipt["files"], EXPORT_RECEIPT]
    return Shipment(folder, {name: (folder / name).stat().st_size for name in names}, repository, public)


def send(shipment: Shipment) -> str:
    """Make the repository if it is not there, and upload; give its address. One of another visibility is refused."""
    from huggingface_hub import HfApi, set_client_factory
    from huggingface_hub.utils._http import default_client_factory
    from huggingface_hub.utils.tqdm import disable_progress_bars

    def patient() -> Any:
        """Make the library's own HTTP client, which would wait for ever, with a time limit."""
        client = default_client_factory()
        client.timeout = TIMEOUT
        return client

    disable_progress_bars()
    set_client_factory(patient)
    api, name = HfApi(), shipment.repository
    with _explained(name):
        api.create_repo(name, private=not shipment.public, exist_ok=True)
        private = api.repo_info(name, timeout=TIMEOUT).private
        if private is shipment.public:  # a repository that was there keeps its visibility
            seen, fix = ("private", "leave --public out") if private else ("public", "add --public to publish there")
            raise UsageError(f"{name} is {seen} already.", f"Choose another --to, or {fix}.")
        sent = api.upload_folder(
            repo_id=name,
            folder_path=shipment.folder,
            allow_patterns=[glob.escape(name) for name in shipment.files],
            commit_message="Upload from heedful",
        )
    return str(sent)


def _export_of(place: Path) -> Path:
    """Return the export itself, or the one of a run."""
    if (place / EXPORT_RECEIPT).is_file():
        return place
    found = sorted(file.parent for file in Run(place).exports.glob(f"*/{EXPORT_RECEIPT}"))
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{place} has several exports.", f"Name one: {', '.join(map(str, found))}.")
    run = open_run(place)
    run.check_model()
    command = f"heedful export {typed(run.path)} --to hf"
    raise UsageError(f"{place} has no exported folder to push.", f"Make one: {command}.")


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Turn what the hub or the network answers into one sentence."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # the client's own errors, and those of the network beneath it
        status = getattr(getattr(error, "response", None), "status_code", None)
        fix = "Log in with `hf auth login`, or set HF_TOKEN to a token that may write." if status in (401, 403) else ""
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        if said := getattr(error, "server_message", None):  # rather than what the client makes of it
            reason = f"the hub answers {status}: {' '.join(said.split()).rstrip('.')}"
        if isinstance(error, UNEXPECTED):
            reason = f"the answer is not a hub's ({type(error).__name__}: {reason})"
            fix = "Check that HF_ENDPOINT, or a proxy on the way, leads to one."
        raise ExportError(f"Cannot push to {repository}: {reason}.", fix) from error
