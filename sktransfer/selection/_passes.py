"""One pass of a network over the photographs: codes by depth, its outputs, its speed."""

from __future__ import annotations

import difflib
import time
import warnings
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
from sklearn.base import clone

from ..backbones._layers import LayerTable
from ..backbones._pooling import POOLINGS
from ..backbones._stages import stages_of
from ..codes import CNNCodes
from ..codes._fitting import asked_layers, table_of
from ..codes._state import network_of
from ..codes._transforming import fill, images_of, normalize_rows, prepare, skipped
from ..exceptions import ImageSkippedWarning, LayerError
from ._likeness import distance_from_source
from ._source_head import source_probabilities

__all__ = ["Seen", "check_params", "pass_over"]

_MOST_LAYERS = 7
# Photographs a second by network, size and device, for codes that are had without a pass.
_SPEEDS: dict[object, float] = {}


@dataclass(frozen=True, eq=False)
class Seen:
    """What one network makes of the photographs.

    Attributes
    ----------
    estimator : CNNCodes
        Not fitted; gives `codes`.
    codes : ndarray of shape (n_kept, width)
        Of the layer that was asked for.
    asked : str
        Its name, or those of several.
    layers : dict of str to ndarray
        Codes by depth, from the input; the last is that before the classifier.
    kept : ndarray of bool
        Photographs that could be read.
    probabilities : ndarray or None
        What the network's own classifier says.
    no_probabilities : str
        Why there are none.
    distance : float or None
        Of the mean codes from those of the source, see :func:`distance_from_source`.
    n_parameters : int
    n_bytes : int
        Of the weights.
    images_per_second : float
        NaN where no photograph was computed in this process.
    """

    estimator: CNNCodes
    codes: np.ndarray
    asked: str
    layers: dict[str, np.ndarray]
    kept: np.ndarray
    probabilities: np.ndarray | None
    no_probabilities: str
    distance: float | None
    n_parameters: int
    n_bytes: int
    images_per_second: float


def check_params(function: str, params: dict[str, Any]) -> None:
    """More parameters of a function must be those of CNNCodes.

    Raises
    ------
    TypeError
        If one is not; it names the nearest.
    """
    own = signature(CNNCodes).parameters
    for name in params:
        if name not in own:
            near = difflib.get_close_matches(name, own, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise TypeError(
                f"{function}() got {name!r}, which is no parameter of it or CNNCodes.{hint}"
            )


def pass_over(codes: CNNCodes, X: Any) -> Seen:
    """Compute the codes of the asked layer and of some by depth, at once.

    Raises
    ------
    ImageError
        If an image cannot be read, unless ``on_error="nan"``.
    BackboneError
        If the network cannot be had.
    """
    table = table_of(codes)[1]
    asked = asked_layers(table, codes.layer)
    if not table.has_default:
        table = table.up_to(asked[-1].name)
    names = list(dict.fromkeys([*_depth(codes, table), *(layer.name for layer in asked)]))
    fitted = clone(codes).set_params(layer=names if len(names) > 1 else names[0]).fit(X)
    if len(fitted.code_shape_) != 1:
        raise LayerError("codes must be rows: take another pooling than None.")
    rows, kept, speed = _compute(fitted, X)
    columns = _columns(rows[kept], [width for _, width in fitted._fitted.columns])
    raw = dict(zip(names, columns, strict=True))
    # What follows, in the network, is fed with averages.
    before = raw.get(table.layers[-1].name) if codes.pooling == "avg" else None
    probabilities, reason = _probabilities(table, before)
    layers = {name: normalize_rows(part.copy(), codes.normalize) for name, part in raw.items()}
    wanted = np.hstack([raw[layer.name] for layer in asked])
    module = network_of(fitted).module
    weights = [*module.parameters(), *module.buffers()]
    return Seen(
        estimator=clone(codes),
        codes=normalize_rows(wanted, codes.normalize),
        asked=" + ".join(layer.name for layer in asked),
        layers=layers,
        kept=kept,
        probabilities=probabilities,
        no_probabilities=reason,
        distance=None if before is None else distance_from_source(table, before),
        n_parameters=sum(one.numel() for one in module.parameters()),
        n_bytes=sum(one.numel() * one.element_size() for one in weights),
        images_per_second=speed,
    )


def _depth(codes: CNNCodes, table: LayerTable) -> list[str]:
    """The ends of some stages, evenly over the depth, with the last layer."""
    last = table.layers[-1].name
    if codes.pooling not in POOLINGS or codes.pooling in ("flatten", "token"):
        return []
    ends = [stage.end.name for stage in stages_of(table) if stage.end.name != last]
    if len(ends) >= _MOST_LAYERS:
        places = np.linspace(0, len(ends) - 1, _MOST_LAYERS - 1).round().astype(int)
        ends = [ends[place] for place in places]
    return [*ends, last]


def _columns(rows: np.ndarray, widths: list[int]) -> list[np.ndarray]:
    stops = np.cumsum(widths)
    return [rows[:, stop - width : stop] for stop, width in zip(stops, widths, strict=True)]


def _probabilities(table: LayerTable, codes: np.ndarray | None) -> tuple[np.ndarray | None, str]:
    if codes is None:
        return None, "needs the codes before the classifier with an average pooling"
    try:
        return source_probabilities(table, codes.astype(np.float64)), ""
    except LayerError as error:
        return None, str(error)


def _compute(codes: CNNCodes, X: Any) -> tuple[np.ndarray, np.ndarray, float]:
    """Rows, not normalised; which photographs could be read; and photographs a second."""
    images = images_of(codes, X)
    store, plan = prepare(codes, images)
    rows = np.empty((len(images), *codes.code_shape_), dtype=np.float32)
    batches: list[int] = []
    plan.usual  # noqa: B018  (made before the clock starts)
    start = time.perf_counter()
    failures = fill(codes, images, store, plan, rows, computed=batches.append)
    seconds = time.perf_counter() - start
    kept = np.ones(len(images), dtype=bool)
    if failures:
        kept[[int(error.index or 0) for error in failures]] = False
        warnings.warn(skipped(failures, len(images)), ImageSkippedWarning, stacklevel=4)
    key = (codes.backbone_.fingerprint, codes.image_size_, *plan.runs_on)
    # A few among many that were known tell nothing about speed.
    if sum(batches) > len(images) / 2:
        _SPEEDS[key] = sum(batches) / seconds
    return rows, kept, _SPEEDS.get(key, float("nan"))
