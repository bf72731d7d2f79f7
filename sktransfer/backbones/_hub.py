"""Files from the Hugging Face hub, from the cache first."""

from __future__ import annotations

import re
import ssl
import time
import urllib.error
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..exceptions import WeightsMismatchError, WeightsUnavailableError, shown
from ._checkpoint import sha256_of
from ._download import OFFLINE_REMEDY, folder_without_home, open_url

__all__ = ["FILENAMES", "STALLED", "hub_file"]

STALLED = 60.0  # seconds without a byte in the download of another process

FILENAMES = ("model.safetensors", "pytorch_model.bin")


def hub_file(
    repo: str, filenames: Sequence[str], *, revision: str | None = None, verbose: int = 0
) -> Path:
    """Fetch the first of some files that a repository has.

    A copy in the cache is taken without asking the hub, so that codes do not change when
    a repository does; delete it, or name a revision, to have another.

    Parameters
    ----------
    repo : str
        Such as ``"timm/resnet50.a1_in1k"``.
    filenames : sequence of str
        The best first.
    revision : str, default=None
        Branch, tag or commit.
    verbose : int, default=0
        1 shows a progress bar.

    Raises
    ------
    WeightsUnavailableError
        If the repository has none of them, or the hub cannot be reached.
    WeightsMismatchError
        If the cached copy is damaged.
    """
    for filename in filenames:
        if (path := _cached(repo, filename, revision)) is not None:
            return _checked(path)
    with _errors_explained(repo, filenames):
        _check_reachable()
        _wait_for_others(repo)
        with _progress(verbose), _without_telemetry():
            return _checked(_first_of(repo, filenames, revision))


def _cached(repo: str, filename: str, revision: str | None) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            hf_hub_download(
                repo, filename, revision=revision, local_files_only=True, cache_dir=_folder()
            )
        )
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise WeightsUnavailableError(
            f"{repo!r} cannot be a repository of the hub: {error}. It must read "
            '"hf-hub:organisation/name".'
        ) from error


def _first_of(repo: str, filenames: Sequence[str], revision: str | None) -> Path:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError

    for filename in filenames:
        try:
            return Path(hf_hub_download(repo, filename, revision=revision, cache_dir=_folder()))
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            continue
    raise WeightsUnavailableError(
        f"the repository {repo} of {constants.ENDPOINT} has no {' or '.join(filenames)}, so it "
        "holds no network of timm. Check its name."
    )


def _folder() -> str:
    """The hub's own cache, if there is a home for it."""
    from huggingface_hub import constants

    folder = str(constants.HF_HUB_CACHE)
    return str(folder_without_home("HF_HOME") / "hub") if folder.startswith("~") else folder


def _wait_for_others(repo: str) -> None:
    """Wait for a process that downloads the same, but not for one that has come to a halt.

    huggingface_hub itself would wait without end, and without a word.
    """
    name = f"models--{repo.replace('/', '--')}"
    folder = Path(_folder())
    for lock in (folder / ".locks" / name).glob("*.lock"):
        since, before = time.monotonic(), -1
        while True:
            try:
                with FileLock(lock, timeout=1, mode=0o664):
                    break
            except Timeout:
                parts = (folder / name / "blobs").glob("*.incomplete")
                came = sum(part.stat().st_size for part in parts)
            if came != before:
                since, before = time.monotonic(), came
            elif time.monotonic() - since > STALLED:
                raise TimeoutError(
                    f"another process holds {lock}, and nothing came for {STALLED:.0f} seconds; "
                    "end that process"
                )


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Ask for files without telling which libraries are installed."""
    from huggingface_hub import constants

    before = constants.HF_HUB_DISABLE_TELEMETRY
    constants.HF_HUB_DISABLE_TELEMETRY = True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = before


def _check_reachable() -> None:
    """Ask once: huggingface_hub itself asks six times for each file, for half a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise ConnectionError("HF_HUB_OFFLINE is set")
    try:
        open_url(constants.ENDPOINT, "HEAD").close()
    except urllib.error.HTTPError:
        pass  # somebody answered
    except urllib.error.URLError as error:
        # huggingface_hub has certificates of its own and may well succeed.
        if not isinstance(error.reason, ssl.SSLError):
            raise


@contextmanager
def _errors_explained(repo: str, filenames: Sequence[str]) -> Iterator[None]:
    from huggingface_hub import constants
    from huggingface_hub.utils import RepositoryNotFoundError, RevisionNotFoundError

    where = (
        f"the weights cannot be had: looked for {' or '.join(filenames)} of {repo} in "
        f"{_folder()} and then at {constants.ENDPOINT}"
    )
    try:
        yield
    except (WeightsMismatchError, WeightsUnavailableError):
        raise
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise WeightsUnavailableError(
            f"{where}, which knows no such repository or revision, or shows it only to some. "
            "Check the name; for a private one set HF_TOKEN."
        ) from error
    except Exception as error:  # of httpx, requests or huggingface_hub, by their versions
        reason = str(getattr(error, "reason", "") or error).split("\n")[0]
        raise WeightsUnavailableError(
            f"{where} ({reason or type(error).__name__}). {OFFLINE_REMEDY}"
        ) from error


def _checked(path: Path) -> Path:
    """Large files are kept under their SHA-256."""
    name = path.resolve().name
    if re.fullmatch("[0-9a-f]{64}", name) and sha256_of(path) != name:
        raise WeightsMismatchError(
            f"{shown(path)} is damaged: its SHA-256 must be {name}. Delete "
            f"{path.resolve()}; it will be fetched again."
        )
    return path


@contextmanager
def _progress(verbose: int) -> Iterator[None]:
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if verbose or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
