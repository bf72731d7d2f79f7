"""One pass of a network over the images: codes by depth, its outputs, its speed."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import clone
from torch import nn

from ..codes import CNNCodes
from ..compute import count_computed, normalize_rows
from ..exceptions import LayerError, did_you_mean
from ..inputs import OR_NAN, skipped, unreadable
from ..networks import POOLINGS, Cuttable

__all__ = ["Seen", "check_params", "pass_over", "source_probabilities"]


_MOST_LAYERS = 7
# Images a second by network, size and device, for codes that are found without a pass.
_SPEEDS: dict[object, float] = {}


@dataclass(frozen=True, eq=False)
class Seen:
    """What one network makes of the images.

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
        Images that could be read.
    probabilities : ndarray or None
        What the network's own classifier says, where that was asked for.
    no_probabilities : str
        Why there are none.
    n_parameters : int
    n_bytes : int
        Of the weights.
    images_per_second : float
        NaN where no image was computed in this process.
    """

    estimator: CNNCodes
    codes: np.ndarray
    asked: str
    layers: dict[str, np.ndarray]
    kept: np.ndarray
    probabilities: np.ndarray | None
    no_probabilities: str
    n_parameters: int
    n_bytes: int
    images_per_second: float


def check_params(function: Callable[..., Any], params: dict[str, Any]) -> None:
    """More parameters of a function must be those of CNNCodes, but for the network itself.

    Raises
    ------
    TypeError
        If one is not; it names the nearest.
    """
    own = [name for name in signature(CNNCodes).parameters if name != "backbone"]
    known = [*signature(function).parameters, *own]
    for name in params:
        if name not in own:
            raise TypeError(
                f"{function.__name__}() got {name!r}, which is no parameter of it or CNNCodes. "
                f"{did_you_mean(name, known)}".rstrip()
            )


def pass_over(
    codes: CNNCodes, X: Any, *, outputs: bool = False, remedy: str | None = OR_NAN
) -> Seen:
    """Compute the codes of the asked layer and of some by depth, at once.

    Parameters
    ----------
    codes : CNNCodes
    X : images
    outputs : bool, default=False
        Whether to ask the network's own classifier, too.
    remedy : str or None
        What an error says may be done about an image that cannot be read, besides fixing it.

    Raises
    ------
    ImageError
        If an image cannot be read, unless ``on_error="nan"``.
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
        n_parameters=sum(one.numel() for one in module.parameters()),
        n_bytes=sum(one.numel() * one.element_size() for one in weights),
        images_per_second=speed,
    )


def _depth(codes: CNNCodes, table: Cuttable) -> list[str]:
    """The ends of some stages, evenly over the depth, with the last layer."""
    last = table.layers[-1].name
    if codes.pooling not in POOLINGS or codes.pooling in ("flatten", "token"):
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
    if codes is None:
        return None, "needs the codes before the classifier with an average pooling"
    try:
        return source_probabilities(table, codes.astype(np.float64)), ""
    except LayerError as error:
        return None, str(error)


def _compute(
    codes: CNNCodes, X: Any, remedy: str | None
) -> tuple[np.ndarray, np.ndarray, float]:
    """Rows, not normalised; which images could be read; and images a second."""
    images = codes._items(X)
    frozen = codes._frozen().for_items(len(images))
    rows = np.empty((len(images), *frozen.shape), dtype=np.float32)
    key = (codes.backbone_.fingerprint, codes.image_size_, *frozen.runs_on)
    strict = codes.on_error == "raise"
    start = time.perf_counter()  # the engine was made for the key
    with codes._progress(len(images)) as progress, count_computed() as computed:
        errors = frozen.fill(images, rows, stop_at_error=strict, progress=progress)
    seconds = time.perf_counter() - start
    if errors and strict:
        raise unreadable(errors[:1], remedy) from errors[0]
    kept = np.ones(len(images), dtype=bool)
    if errors:
        kept[[int(error.index or 0) for error in errors]] = False
        warnings.warn(skipped(errors, len(images)), stacklevel=4)
    # A few among many that were known tell nothing about speed.
    if computed.n_items > len(images) / 2:
        _SPEEDS[key] = computed.n_items / seconds
    return rows, kept, _SPEEDS.get(key, float("nan"))


# What the network's own classifier says, from the codes before it.


def source_probabilities(table: Cuttable, codes: np.ndarray) -> np.ndarray:
    """Probabilities of the classes that the network was trained on.

    Parameters
    ----------
    table : Cuttable
    codes : ndarray of shape (n_samples, width)
        Of the layer before the classifier, not normalised.

    Raises
    ------
    LayerError
        If what follows the codes is not one linear layer.
    """
    head = _linear_head(table)
    weight = head.weight.detach().numpy().astype(np.float64)
    bias = 0.0 if head.bias is None else head.bias.detach().numpy()
    return softmax(codes @ weight.T + bias, axis=1)


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
