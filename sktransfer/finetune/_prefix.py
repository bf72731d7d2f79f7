"""From images to what the tail takes: codes, the map of a layer, or pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..compute import worker_pool
from ..compute._plan import make_plan
from ..compute._runner import compute_codes
from ..exceptions import ImageError
from ..inputs import Framing, OpenedImage, frame, tell
from ..networks import Backbone
from ..networks._layers import Layer, LayerTable
from ..networks._split import pooled_shape
from ..store import Store

__all__ = ["Opens", "Prefix", "Some", "leave_it_out"]


def leave_it_out(error: ImageError) -> str:
    """What to do about an image that cannot be read, where there can be no row of NaN."""
    if not error.source:
        return "Fix or remove the image"
    return "Fix or remove the file; load_image_folder(..., verify=True) skips such files"


class Opens(Protocol):
    """A sequence of images, as :func:`sktransfer.inputs.as_images` gives it."""

    def __len__(self) -> int: ...

    def open(self, index: int) -> OpenedImage: ...


@dataclass(frozen=True)
class Some:
    """Some of the images of a sequence, in the order of their numbers."""

    images: Opens
    numbers: Sequence[int] | np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def open(self, index: int) -> OpenedImage:
        return self.images.open(self.number(index))

    def number(self, index: int) -> int:
        """Which image of the sequence it is."""
        return int(self.numbers[index])


@dataclass(frozen=True)
class Prefix:
    """The frozen part of a network, and how it is run.

    Attributes
    ----------
    backbone : Backbone
    table : LayerTable
        Its layers.
    start : Layer or None
        Where the frozen part ends; None is the pixels themselves.
    framing : Framing
        Makes an image fit the network.
    store : Store or None
        Keeps what was computed.
    device, precision, engine, batch_size, n_jobs : object
        As in `CNNCodes`.
    """

    backbone: Backbone
    table: LayerTable
    start: Layer | None
    framing: Framing
    store: Store | None
    device: list[str]
    precision: str
    engine: str
    batch_size: int | None
    n_jobs: int | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what one image becomes."""
        if self.start is None:
            return (*self.framing.image_size, self.framing.n_channels)
        return pooled_shape(self.start, self._pooling)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8 if self.start is None else np.float32)

    @property
    def _pooling(self) -> str | None:
        return "avg" if self.start is self.table.layers[-1] else None

    def at(self, start: Layer | None) -> Prefix:
        """The same network, frozen up to another place."""
        return Prefix(**{**self.__dict__, "start": start})

    def compute(self, images: Opens, out: Any = None, *, keep: bool = True) -> np.ndarray:
        """What images become.

        Parameters
        ----------
        images : sequence of images
        out : ndarray or None
            Filled and given back.
        keep : bool
            Whether the store is asked and filled.

        Raises
        ------
        ImageError
            If an image cannot be read.
        """
        out = np.empty((len(images), *self.shape), self.dtype) if out is None else out
        if self.start is None:
            self._frame(images, out)
            return out
        plan = make_plan(
            self.backbone,
            self.table,
            [self.start],
            self.framing,
            pooling=self._pooling,
            device=self.device,
            precision=self.precision,
            engine=self.engine,
            compile=False,
        )
        failures = compute_codes(
            images,  # type: ignore[arg-type]
            plan,
            self.store if keep else None,
            out,
            batch_size=self.batch_size,
            n_jobs=self.n_jobs,
            stop_at_error=False,
        )
        _complain(failures, images)
        return out

    def _frame(self, images: Opens, out: np.ndarray) -> None:
        def one(number: int) -> None:
            out[number] = frame(images.open(number).pixels(), self.framing)

        errors = []
        futures = [worker_pool().submit(one, number) for number in range(len(images))]
        for number, future in enumerate(futures):
            error = future.exception()
            if isinstance(error, ImageError):
                errors.append(ImageError(error.cause, number, error.source))
            elif error is not None:
                raise error
        tell(images)
        _complain(errors, images)


def _complain(failures: Sequence[ImageError], images: Any) -> None:
    """Raise the first of some errors, with the number of the image in the whole input."""
    if not failures:
        return
    first, more = failures[0], len(failures) - 1
    index = first.index
    while index is not None and hasattr(images, "images"):
        index = images.number(index) if isinstance(images, Some) else index
        images = images.images
    also = f", and {more} more cannot be read" if more else ""
    raise ImageError(f"{first.cause}{also}. {leave_it_out(first)}", index, first.source) from first
