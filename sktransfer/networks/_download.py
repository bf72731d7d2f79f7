"""Files of weights from the web, into the cache that torch.hub has.

torch.hub's own function waits forever for a network that swallows packets, believes a cached
file whatever it holds, and prints; so only its folder is used.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import ssl
import stat
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from .._files import atomic_write
from ..config import as_lines, shows_progress
from ..exceptions import WeightsMismatchError, WeightsUnavailableError, shown
from ._weights import sha256_of

__all__ = [
    "FILENAMES",
    "OFFLINE_REMEDY",
    "STALLED",
    "TIMEOUT",
    "cached_download",
    "digest_in_name",
    "folder_without_home",
    "hub_cached",
    "hub_file",
    "open_url",
]


TIMEOUT = 10.0  # seconds without a byte
_CHUNK = 1 << 20
# What comes more slowly would take a day for the smallest networks.
_SLOWEST, _WHILE = 1000.0, 30.0  # bytes a second, over so many seconds

# How files of weights begin: zip archives, pickles and tar archives of torch.
_ZIP, _PICKLE, _TAR = b"PK\x03\x04", b"\x80\x02", b"ustar"

OFFLINE_REMEDY = (
    "Without a network connection, download it on another machine and pass the file as "
    'weights="/path/to/file"; or take efficientnet_lite0, which was installed with sktransfer '
    "and needs no download."
)


def digest_in_name(url: str) -> str | None:
    """The first digits of a file's SHA-256, where its name carries them as torch.hub's do."""
    found = re.search(r"-([0-9a-f]{8,64})\.[a-z.]+$", url)
    return found[1] if found else None


def cached_download(url: str, what: str) -> Path:
    """Fetch a file once, and check it each time.

    Parameters
    ----------
    url : str
        Its name may carry the first digits of the content's SHA-256.
    what : str
        Whose weights these are, for messages.

    Returns
    -------
    path : Path
        Under ``$TORCH_HOME/hub/checkpoints``, ``~/.cache/torch`` by default.

    Raises
    ------
    WeightsUnavailableError
        If it is not there and cannot be fetched or kept.
    WeightsMismatchError
        If its content is not what its name says.
    """
    path = _torch_folder() / "checkpoints" / url.rpartition("/")[2]
    wanted = digest_in_name(path.name)
    if path.exists():
        _check_cached(path, url, wanted)
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, path, wanted)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, WeightsUnavailableError):
            raise
        raise WeightsUnavailableError(
            f"{what} cannot be loaded: looked for {shown(path)} and then for {url} "
            f"({_reason(error)}). {OFFLINE_REMEDY}"
        ) from error
    return path


def _torch_folder() -> Path:
    """The folder of torch.hub."""
    folder = torch.hub.get_dir()
    if os.environ.get("TORCH_HOME") or not folder.startswith("~"):
        return Path(folder)
    return folder_without_home("TORCH_HOME") / "torch" / "hub"


def folder_without_home(variable: str) -> Path:
    """A folder for weights of a user id that has no home, as in some containers.

    Parameters
    ----------
    variable : str
        What names another place, for the message.

    Raises
    ------
    WeightsUnavailableError
        If somebody else may write to it.
    """
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"sktransfer-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise WeightsUnavailableError(
            f"There is no folder to keep weights in: this user has no home, and {shown(folder)} "
            f"cannot be made ({error.strerror}). Set the environment variable {variable}."
        ) from error
    others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(status.st_mode) or user not in ("user", status.st_uid) or others:
        raise WeightsUnavailableError(
            f"There is no folder to keep weights in: this user has no home, and others may write "
            f"to {shown(folder)}. Delete it, or set the environment variable {variable}."
        )
    return folder


def _check_cached(path: Path, url: str, wanted: str | None) -> None:
    got = sha256_of(path)
    if wanted and not got.startswith(wanted):
        raise WeightsMismatchError(
            f"{shown(path)}, the cached copy of {url}, is damaged: its SHA-256 must start with "
            f"{wanted}, but is {got}. Delete it; it will be downloaded again."
        )
    if not wanted and (begin := _begin_of_no_weights(path)) is not None:
        raise WeightsMismatchError(
            f"{shown(path)}, the cached copy of {url}, is not a file of weights; it begins with "
            f"{begin}. Delete it; it will be downloaded again."
        )


def _begin_of_no_weights(path: Path) -> str | None:
    """How a file begins that cannot be one of weights, such as a page of a proxy."""
    with path.open("rb") as file:
        begin = file.read(512)
        size = file.seek(0, os.SEEK_END)
    if path.suffix == ".safetensors":
        header = int.from_bytes(begin[:8], "little")
        fine = len(begin) > 8 and begin[8:9] == b"{" and header <= size - 8
    elif begin.startswith(_ZIP):
        fine = zipfile.is_zipfile(path)  # its directory is at its end
    else:
        fine = begin.startswith(_PICKLE) or begin[257:262] == _TAR
    return None if fine else repr(begin[:40])


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", "") or error) or type(error).__name__


def _fetch(url: str, path: Path, wanted: str | None) -> None:
    digest = hashlib.sha256()
    with atomic_write(path) as draft, draft.open("xb") as file, open_url(url) as answer:
        length = int(answer.headers.get("Content-Length") or 0)
        bar = tqdm(total=length or None, desc=path.name, unit="B", unit_scale=True,
                   unit_divisor=1024, disable=not shows_progress(),
                   mininterval=60 if as_lines() else 0.1)  # fmt: skip
        with bar:
            for chunk in _chunks(answer):
                file.write(chunk)
                digest.update(chunk)
                bar.update(len(chunk))
        if length and file.tell() != length:
            raise ConnectionError(f"only {file.tell()} of {length} bytes came")
        file.flush()
        if not wanted and (begin := _begin_of_no_weights(draft)) is not None:
            raise WeightsMismatchError(
                f"{url} gave something else than weights; it begins with {begin}. Nothing was "
                "kept. Open the address in a browser: a proxy may want you to log in first."
            )
        if wanted and not digest.hexdigest().startswith(wanted):
            raise WeightsMismatchError(
                f"{url} gave another file than it should: its SHA-256 must start with {wanted}, "
                f"but is {digest.hexdigest()}. Nothing was kept. Try again; if it stays so, a "
                "proxy or mirror on the way serves something else."
            )


def _chunks(answer: Any) -> Iterator[bytes]:
    """What comes, as long as it comes fast enough to come to an end."""
    since, came = time.monotonic(), 0
    while chunk := answer.read1(_CHUNK):
        yield chunk
        came += len(chunk)
        if (seconds := time.monotonic() - since) > _WHILE:
            if came < _SLOWEST * seconds:
                raise TimeoutError(f"only {came} bytes came in {seconds:.0f} seconds")
            since, came = time.monotonic(), 0


def open_url(url: str, method: str = "GET") -> Any:
    """Open a URL, through the proxies of the environment, and never wait for minutes."""
    request = urllib.request.Request(url, headers={"User-Agent": "sktransfer"}, method=method)
    return urllib.request.urlopen(request, timeout=TIMEOUT)


# Files from the Hugging Face hub, from the cache first.


STALLED = 60.0  # seconds without a byte in the download of another process

FILENAMES = ("model.safetensors", "pytorch_model.bin")


def hub_file(
    repo: str,
    filenames: Sequence[str],
    *,
    revision: str | None = None,
    remedy: str = OFFLINE_REMEDY,
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
    remedy : str
        What to do without a network connection.

    Raises
    ------
    WeightsUnavailableError
        If the repository has none of them, or the hub cannot be reached.
    WeightsMismatchError
        If the cached copy is damaged.
    """
    for filename in filenames:
        if (path := hub_cached(repo, filename, revision)) is not None:
            return _checked(path)
    with _errors_explained(repo, filenames, remedy):
        _check_reachable()
        _wait_for_others(repo)
        with _progress(), _without_telemetry():
            return _checked(_first_of(repo, filenames, revision))


def hub_cached(repo: str, filename: str, revision: str | None = None) -> Path | None:
    """A file of a repository that was fetched before, or None."""
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
        "holds no network that can be read. Check its name."
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
def _errors_explained(repo: str, filenames: Sequence[str], remedy: str) -> Iterator[None]:
    from huggingface_hub import constants
    from huggingface_hub.utils import RepositoryNotFoundError, RevisionNotFoundError

    where = (
        f"the weights could not be loaded: looked for {' or '.join(filenames)} of {repo} in "
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
            f"{where} ({reason or type(error).__name__}). {remedy}"
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
def _progress() -> Iterator[None]:
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if shows_progress() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
