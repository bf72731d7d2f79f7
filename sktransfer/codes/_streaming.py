"""`transform_to`: codes that go to disk as they are computed, and a pass that can be resumed."""

from __future__ import annotations

import json
import os
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..exceptions import CodesFileError, ImageError, ImageSkippedWarning, shown
from ..images import Images
from ._code_file import CodeFile
from ._plan import Plan
from ._report import TransformReport
from ._transforming import fill, images_of, prepare, skipped

if TYPE_CHECKING:
    from ._estimator import CNNCodes

__all__ = ["stream_codes"]

DTYPES = ("float32", "float16")


def stream_codes(
    codes: CNNCodes, path: str | os.PathLike[str], X: Any, *, dtype: str, overwrite: bool
) -> TransformReport:
    """Fill a file with rows of codes, one for each image."""
    began = time.monotonic()
    place, kind = _check_path(path), _check_dtype(dtype)
    images = images_of(codes, X)
    store, plan = prepare(codes, images)
    plan.usual  # noqa: B018  (the file says what computed it)
    shape = (len(images), *codes.code_shape_)
    facts = _facts(codes, plan, shape, kind)
    file = CodeFile(
        place, shape, kind, facts, overwrite=overwrite, normalize=codes._fitted.normalize
    )
    try:
        if not overwrite:
            _check_photographs(file, images)
        kept = f"the codes computed so far are kept in {shown(file.partial)}: call again to resume"
        failures = fill(codes, images, store, plan, file, known=file.holds, kept=kept)
        file.finish()
    finally:
        file.close()
    if failures:
        warnings.warn(skipped(failures, len(images)), ImageSkippedWarning, stacklevel=3)
    return TransformReport(
        place, shape, kind, file.n_new, file.n_known, tuple(failures), time.monotonic() - began
    )


def _check_path(path: str | os.PathLike[str]) -> Path:
    place = Path(os.fsdecode(path))
    if place.suffix != ".npy":
        raise ValueError(f'path must end in ".npy", NumPy\'s own format, got {shown(path)}.')
    try:
        place = place.expanduser()
        with suppress(FileNotFoundError, NotADirectoryError):
            os.stat(place)
        found, is_folder = place.parent.is_dir(), place.is_dir()
    except (OSError, ValueError, RuntimeError) as error:
        # A zero byte, a name too long, no right to look, no home.
        raise CodesFileError(
            f"codes cannot be written to {shown(path)}: {shown(error)}. Give another path."
        ) from error
    if not found:
        raise CodesFileError(
            f"the folder {shown(place.parent)}, where {shown(place.name)} is to be, was not found."
            " Make it first, or give another path."
        )
    if is_folder:
        raise CodesFileError(f"{shown(place)} is a folder. Give the name of a file in it.")
    return place


def _check_dtype(dtype: Any) -> np.dtype:
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = "?"
    if name not in DTYPES:
        raise ValueError(f"dtype must be one of {DTYPES}, got {dtype!r}.")
    return np.dtype(name)


def _facts(codes: CNNCodes, plan: Plan, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """Everything but the photographs that decides what is in the file, as JSON has it.

    The fingerprint, which is the address of the codes in the store, covers the weights and
    all that is done to pixels; the rest tells a reader what differs.
    """
    facts = {
        "shape": shape,
        "dtype": dtype.name,
        "network": codes.backbone_.name,
        "layers": codes.layers_,
        "pooling": codes._fitted.pooling,
        "normalize": codes._fitted.normalize,
        "image size": codes.image_size_,
        "resize": codes._fitted.framing.resize,
        "engine": plan.runs_on[0],
        "precision": plan.runs_on[1],
        "fingerprint": plan.single.spaces,
    }
    return json.loads(json.dumps(facts))


def _check_photographs(file: CodeFile, images: Images) -> None:
    """Refuse another list before a row of the old one is lost."""

    def digest_of(number: int) -> bytes | None:
        try:
            return images.open(number).digest
        except ImageError:
            return None

    if file.of_other_photographs(digest_of):
        raise CodesFileError(
            f"{shown(file.path)} is of other images, or of these in another order. Give another "
            "path, or replace it with overwrite=True."
        )
