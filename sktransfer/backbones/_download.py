"""Files of weights from the web, into the cache that torch.hub has.

torch.hub's own function waits forever for a network that swallows packets, believes a cached
file whatever it holds, and prints; so only its folder is used.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from tqdm.auto import tqdm

from ..exceptions import WeightsMismatchError, WeightsUnavailableError
from ._checkpoint import sha256_of

__all__ = ["OFFLINE_REMEDY", "TIMEOUT", "cached_download", "digest_in_name", "open_url"]

TIMEOUT = 10.0  # seconds without a byte
_CHUNK = 1 << 20

OFFLINE_REMEDY = (
    "Without a network connection, download it on another machine and pass the file as "
    'weights="/path/to/file"; or take efficientnet_lite0, which was installed with sktransfer '
    "and needs no download."
)


def digest_in_name(url: str) -> str | None:
    """The first digits of a file's SHA-256, where its name carries them as torch.hub's do."""
    found = re.search(r"-([0-9a-f]{8,64})\.[a-z.]+$", url)
    return found[1] if found else None


def cached_download(url: str, what: str, *, verbose: int = 0) -> Path:
    """Fetch a file once, and check it each time.

    Parameters
    ----------
    url : str
        Its name may carry the first digits of the content's SHA-256.
    what : str
        Whose weights these are, for messages.
    verbose : int, default=0
        1 shows a progress bar.

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
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    wanted = digest_in_name(path.name)
    if path.exists():
        if wanted and not (got := sha256_of(path)).startswith(wanted):
            raise WeightsMismatchError(
                f"{path}, the cached copy of {url}, is damaged: its SHA-256 must start with "
                f"{wanted}, but is {got}. Delete it; it will be fetched again."
            )
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, path, wanted, verbose)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, WeightsUnavailableError):
            raise
        raise WeightsUnavailableError(
            f"{what} cannot be had: looked for {path} and then for {url} ({_reason(error)}). "
            f"{OFFLINE_REMEDY}"
        ) from error
    return path


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", "") or error) or type(error).__name__


def _fetch(url: str, path: Path, wanted: str | None, verbose: int) -> None:
    digest = hashlib.sha256()
    with _appearing(path) as file, open_url(url) as answer:
        length = int(answer.headers.get("Content-Length") or 0)
        bar = tqdm(total=length or None, desc=path.name, unit="B", unit_scale=True,
                   unit_divisor=1024, disable=not verbose)  # fmt: skip
        with bar:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                digest.update(chunk)
                bar.update(len(chunk))
        if length and file.tell() != length:
            raise ConnectionError(f"only {file.tell()} of {length} bytes came")
        if wanted and not digest.hexdigest().startswith(wanted):
            raise WeightsMismatchError(
                f"{url} gave another file than it should: its SHA-256 must start with {wanted}, "
                f"but is {digest.hexdigest()}. Nothing was kept. Try again; if it stays so, a "
                "proxy or mirror on the way serves something else."
            )


def open_url(url: str, method: str = "GET") -> Any:
    """Open a URL, through the proxies of the environment, and never wait for minutes."""
    request = urllib.request.Request(url, headers={"User-Agent": "sktransfer"}, method=method)
    return urllib.request.urlopen(request, timeout=TIMEOUT)


@contextmanager
def _appearing(path: Path) -> Iterator[IO[bytes]]:
    """A file that is there whole or not at all."""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
