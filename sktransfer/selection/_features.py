"""One pass of a network over the items: codes by depth, its outputs, its speed."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import clone
from torch import nn

from ..compute import count_computed, normalize_rows
from ..exceptions import LayerError
from ..inputs import OR_NAN, skipped, unreadable
from ..networks import Cuttable
from ._modality import modality_of, rows_at

__all__ = ["Seen", "pass_over", "source_probabilities"]


_MOST_LAYERS = 7
# Items a second by network, size and device, for codes that are found without a pass.
_SPEEDS: dict[object, float] = {}
# Items that are computed for their speed alone, where the codes of all are known.
_TIMED = 32


@dataclass(frozen=True, eq=False)
class Seen:
    """What one network makes of the items.

    Attributes
    ----------
    estimator : CNNCodes or TextCodes
        Not fitted; gives `codes`.
    codes : ndarray of shape (n_kept, width)
        Of the layer that was asked for.
    asked : str
        Its name, or those of several.
    layers : dict of str to ndarray
        Codes by depth, from the input; the last is that before the classifier.
    kept : ndarray of bool
        Items that could be read.
    probabilities : ndarray or None
        What the network's own classifier says, where that was asked for.
    no_probabilities : str
        Why there are none.
    n_stages : int
        Stages of the network.
    n_parameters : int
    n_bytes : int
        Of the weights.
    items_per_second : float
        NaN where no item was computed in this process.
    """

    estimator: Any
    codes: np.ndarray
    asked: str
    layers: dict[str, np.ndarray]
    kept: np.ndarray
    probabilities: np.ndarray | None
    no_probabilities: str
    n_stages: int
    n_parameters: int
    n_bytes: int
    items_per_second: float


def pass_over(
    codes: Any, X: Any, *, outputs: bool = False, remedy: str | None = OR_NAN
) -> Seen:
    """Compute the codes of the asked layer and of some by depth, at once.

    Parameters
    ----------
    codes : CNNCodes or TextCodes
    X : images or texts
    outputs : bool, default=False
        Whether to ask the network's own classifier, too.
    remedy : str or None
        What an error says may be done about an item that cannot be read, besides fixing it.

    Raises
    ------
    ItemError
        If an item cannot be read, unless ``on_error="nan"``.
    BackboneError
        If the network cannot be loaded.
    """
    table = codes._cut(codes._load())
    asked = table.several(codes.layer)
    if not table.has_default:
        table = table.up_to(asked[-1].name)
    names = list(dict.fromkeys([*_depth(codes, table), *(layer.name for layer in asked)]))
    fitted = clone(codes).set_params(layer=names if len(names) > 1 else names[0]).fit(X)
    if len(fitted.code_shape_) != 1:
        raise LayerError("codes must be rows: take another pooling than None.")
    rows, kept, speed = _compute(fitted, X, remedy)
    columns = _columns(rows[kept], [width for _, width in fitted._fitted.columns])
    raw = dict(zip(names, columns, strict=True))
    # What follows, in the network, is fed with averages.
    before = raw.get(table.layers[-1].name) if codes.pooling == "avg" else None
    probabilities, reason = _probabilities(table, before) if outputs else (None, "not asked for")
    layers = {name: normalize_rows(part.copy(), codes.normalize) for name, part in raw.items()}
    wanted = np.hstack([raw[layer.name] for layer in asked])
    module = fitted._load_network().module
    weights = [*module.parameters(), *module.buffers()]
    return Seen(
        estimator=clone(codes),
        codes=normalize_rows(wanted, codes.normalize),
        asked=" + ".join(layer.name for layer in asked),
        layers=layers,
        kept=kept,
        probabilities=probabilities,
        no_probabilities=reason,
        n_stages=len(table.stages()),
        n_parameters=sum(one.numel() for one in module.parameters()),
        n_bytes=sum(one.numel() * one.element_size() for one in weights),
        items_per_second=speed,
    )


def _depth(codes: Any, table: Cuttable) -> list[str]:
    """The ends of some stages, evenly over the depth, with the last layer."""
    last = table.layers[-1].name
    if not modality_of(codes).pools_any_layer(codes.pooling):
        return []
    ends = [stage.end.name for stage in table.stages() if stage.end.name != last]
    if len(ends) >= _MOST_LAYERS:
        places = np.linspace(0, len(ends) - 1, _MOST_LAYERS - 1).round().astype(int)
        ends = [ends[place] for place in places]
    return [*ends, last]


def _columns(rows: np.ndarray, widths: list[int]) -> list[np.ndarray]:
    stops = np.cumsum(widths)
    return [rows[:, stop - width : stop] for stop, width in zip(stops, widths, strict=True)]


def _probabilities(table: Cuttable, codes: np.ndarray | None) -> tuple[np.ndarray | None, str]:
    if codes is None and table.classifier():
        return None, "needs the codes before the classifier with an average pooling"
    try:
        return source_probabilities(table, codes), ""
    except LayerError as error:
        return None, str(error)


def _compute(codes: Any, X: Any, remedy: str | None) -> tuple[np.ndarray, np.ndarray, float]:
    """Rows, not normalised; which items could be read; and items a second."""
    items = codes._items(X)
    frozen = codes._frozen().for_items(len(items))
    rows = np.empty((len(items), *frozen.shape), dtype=np.float32)
    key = (codes.backbone_.fingerprint, frozen.preparation.shape, *frozen.runs_on)
    strict = codes.on_error == "raise"
    start = time.perf_counter()  # the engine was made for the key
    with codes._progress(len(items)) as progress, count_computed() as computed:
        errors = frozen.fill(items, rows, stop_at_error=strict, progress=progress)
    seconds = time.perf_counter() - start
    if errors and strict:
        raise unreadable(errors[:1], remedy) from errors[0]
    kept = np.ones(len(items), dtype=bool)
    if errors:
        kept[[int(error.index or 0) for error in errors]] = False
        warnings.warn(skipped(errors, len(items)), stacklevel=4)
    # A few among many that were known tell nothing about speed.
    if computed.n_items > len(items) / 2:
        _SPEEDS[key] = computed.n_items / seconds
    elif key not in _SPEEDS and kept.any():
        some = rows_at(X, np.flatnonzero(kept)[:_TIMED], len(items))
        _SPEEDS[key] = _speed_of(frozen, codes._items(some))
    return rows, kept, _SPEEDS.get(key, float("nan"))


def _speed_of(frozen: Any, items: Any) -> float:
    """Items a second, of some whose codes are known: computed once more, and not kept."""
    frozen.rows(items, keep=False)  # makes the engine
    start = time.perf_counter()
    frozen.rows(items, keep=False)
    return float(len(items) / (time.perf_counter() - start))


# What the network's own classifier says, from the codes before it.


def source_probabilities(table: Cuttable, codes: np.ndarray | None) -> np.ndarray:
    """Probabilities of the classes that the network was trained on.

    Parameters
    ----------
    table : Cuttable
    codes : ndarray of shape (n_samples, width) or None
        Of the layer before the classifier, not normalised.

    Raises
    ------
    LayerError
        If what follows the codes is not one linear layer.
    """
    head = _linear_head(table)
    weight = head.weight.detach().numpy().astype(np.float64)
    bias = 0.0 if head.bias is None else head.bias.detach().numpy()
    rows: Any = np.asarray(codes, np.float64)
    return softmax(rows @ weight.T + bias, axis=1)


def _linear_head(table: Cuttable) -> nn.Linear:
    layer, working = table.layers[-1], table.classifier()
    if not working:
        raise LayerError("the network has no classifier of its own")
    (_, first), *others = working
    if others or not isinstance(first, nn.Linear):
        names = ", ".join(name for name, _ in working)
        raise LayerError(
            f"the network's own classifier is not one linear layer behind the codes, but {names}"
        )
    if first.in_features != layer.n_channels or np.prod(layer.shape) != layer.n_channels:
        raise LayerError(f"the classifier takes more than the pooled codes of {layer.name!r}")
    return first
