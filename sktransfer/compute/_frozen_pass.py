"""The frozen part of a network as one value: what it makes of items, and how it is run."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..exceptions import ItemError
from ..inputs import Items, Preparation, unreadable
from ..networks import Cuttable, Layer, pooled_shape
from ..store import Store
from ._plan import ComputeSettings, Plan, memory_of_all_layers
from ._runner import compute_rows, prepare_rows

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FrozenPass", "normalize_rows", "normalized"]


# The derivative of a square root is infinite at zero.
_SMALL = 1e-12


@dataclass(frozen=True, eq=False)
class FrozenPass:
    """A network up to some of its layers, ready to be shown items.

    Attributes
    ----------
    network : Cuttable
    layers : tuple of Layer
        Whose outputs are wanted. With a pooling they stand side by side in one row; maps
        (``pooling=None``) of several layers are arrays of their own, from one pass. None at all
        are the prepared items themselves, where nothing is frozen.
    preparation : Preparation
        Makes an item an array.
    pooling : str or None
        As in `CNNCodes`.
    settings : ComputeSettings
    store : Store or None
        Asked first; what is computed is kept in it, layer by layer.
    keep : {"auto", "asked", "all"}
        As `cache_layers` of `CNNCodes`.
    """

    network: Cuttable
    layers: tuple[Layer, ...]
    preparation: Preparation
    pooling: str | None = "avg"
    settings: ComputeSettings = field(default_factory=ComputeSettings)
    store: Store | None = None
    keep: str = "asked"

    def at(self, layers: Sequence[Layer], pooling: str | None) -> FrozenPass:
        """The same network, frozen up to other layers."""
        layers = tuple(layers)
        if (layers, pooling) == (self.layers, self.pooling):
            return self
        settings = self.settings.for_other_layers()
        return replace(self, layers=layers, pooling=pooling, settings=settings)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """What one item becomes, layer by layer."""
        return tuple(pooled_shape(layer, self.pooling) for layer in self.layers)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the row of one item; layers stand side by side."""
        shapes = self.shapes or (self.preparation.shape,)
        return shapes[0] if len(shapes) == 1 else (sum(math.prod(one) for one in shapes),)

    @property
    def dtype(self) -> np.dtype:
        """Of the numbers in a row."""
        return np.dtype(np.float32) if self.layers else self.preparation.dtype

    @property
    def columns(self) -> tuple[tuple[str, int], ...]:
        """What the columns of each layer are called before their number, and how many there are.

        The pooling is part of the name where there was something to pool.
        """
        network = re.sub("[^0-9A-Za-z_.]", "_", self.network.name)
        return tuple(
            (
                f"{network}_{layer.name}"
                + f"_{self.pooling or 'map'}" * (-1 in layer.shape or _has_places(layer)),
                math.prod(shape),
            )
            for layer, shape in zip(self.layers, self.shapes, strict=True)
        )

    def rows(self, items: Items, out: Any = None, *, keep: bool = True) -> Any:
        """What the items become, all of which must be readable.

        Parameters
        ----------
        items : Items
        out : array or None
            Filled and given back: anything with rows that can be set.
        keep : bool
            Whether the store is asked and filled.

        Returns
        -------
        ndarray of shape (n_items, *shape), or a list of one (n_items, *map) a layer
            The latter for several layers with ``pooling=None``. Where rows differ in length, as
            those of texts do, an array is one of objects, each a row.

        Raises
        ------
        ItemError
            If an item cannot be read; names it and says how many more there are.
        """
        out = self._empty(len(items)) if out is None else out
        if errors := self.fill(items, out, keep=keep, stop_at_error=False):
            raise unreadable(errors) from errors[0]
        return out

    def fill(
        self,
        items: Items,
        out: Any,
        *,
        stop_at_error: bool = True,
        progress: Any = None,
        known: Callable[[int, bytes], bool] | None = None,
        keep: bool = True,
    ) -> list[ItemError]:
        """Fill rows with what items become.

        Parameters
        ----------
        items : Items
        out : ndarray of shape (n_items, *shape), list of such, or anything with rows to be set
            Rows of items that cannot be read become NaN.
        stop_at_error : bool
            End soon after the first item that cannot be read.
        progress : tqdm or None
            Moved on by one for each item.
        known : callable or None
            Tells by the row and digest of an item that its row need not be filled.
        keep : bool
            Whether the store is asked and filled.

        Returns
        -------
        list of ItemError
            Of items that could not be read, in order; each with its number in the whole input.
        """
        if not self.layers:
            return prepare_rows(items, self.preparation, out)
        return compute_rows(
            items,
            self._plan,
            self.store if keep else None,
            _Taps(out) if isinstance(out, list) else out,
            batch_size=self.settings.batch_size,
            n_jobs=self.settings.n_jobs,
            stop_at_error=stop_at_error,
            progress=progress,
            known=known,
        )

    def warm_up(self) -> None:
        """Make the engine ready for one item and for many; nothing is kept in the store."""
        if self.layers:
            self._plan.usual.engine.warm_up(self.preparation.probes()[0])

    def uncached(self) -> FrozenPass:
        """The same without a store."""
        return replace(self, store=None)

    def for_items(self, n: int) -> FrozenPass:
        """The same for so many items: a store that cannot hold all layers is not given them."""
        limit = getattr(self.store, "max_bytes", None)
        if self.keep != "auto" or limit is None or memory_of_all_layers(self.network, n) < limit:
            return self
        return replace(self, keep="asked")

    @cached_property
    def runs_on(self) -> tuple[str, str]:
        """Name and precision of what computes; it is made now, if it was not yet."""
        self._plan.usual  # noqa: B018  (one that cannot run the network gives way to another)
        return self._plan.runs_on

    @property
    def spaces(self) -> tuple[str, ...]:
        """Of each layer in the store: they change with whatever could change a number."""
        return self._plan.single.spaces

    @cached_property
    def _plan(self) -> Plan:
        return Plan(
            self.network,
            self.layers,
            self.preparation,
            pooling=self.pooling,
            settings=self.settings,
            keep=self.keep,
        )

    def _empty(self, n: int) -> Any:
        if self.pooling is None and len(self.layers) > 1:
            return [_rows_for(n, shape, self.dtype) for shape in self.shapes]
        return _rows_for(n, self.shape, self.dtype)


def _has_places(layer: Layer) -> bool:
    return math.prod(layer.shape) > layer.n_channels


def _rows_for(n: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return np.empty(n, object) if -1 in shape else np.empty((n, *shape), dtype)


class _Taps:
    """Arrays of several layers, whose rows are set together."""

    def __init__(self, arrays: list[Any]):
        self._arrays = arrays

    def __setitem__(self, row: int, parts: Any) -> None:
        for number, array in enumerate(self._arrays):
            array[row] = parts if np.isscalar(parts) else parts[number]


def normalize_rows(rows: np.ndarray, how: str | None) -> np.ndarray:
    """Scale rows, in place, to length 1, for ``"power"`` after signed square roots."""
    if how is None:
        return rows
    if how == "power":
        np.copyto(rows, np.sign(rows) * np.sqrt(np.abs(rows)))
    flat = rows.reshape(len(rows), -1)
    lengths = np.linalg.norm(flat, axis=1, keepdims=True)
    np.divide(flat, lengths, out=flat, where=lengths > 0)
    return rows


def normalized(rows: Tensor, how: str | None) -> Tensor:
    """The same of a tensor (n, n_columns), in a way that can be derived."""
    if how is None:
        return rows
    if how == "power":
        rows = rows.sign() * rows.abs().clamp(min=_SMALL).sqrt()
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=_SMALL)
