"""Which places of an image a score hangs on: Grad-CAM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import is_regressor
from sklearn.pipeline import Pipeline

from ..codes import CNNCodes, slopes_of
from ..compute import SeenFrom
from ..exceptions import LayerError
from ..finetune import FineTuneClassifier, FineTuneRegressor
from ..inputs import Images, Subset
from ..networks import Layer, as_map, running
from ._answers import Answers, decisions_of

__all__ = ["GradCAM", "NoMaps"]


# Images whose maps are in memory at a time.
_AT_A_TIME = 16
# How far answers may be from those of a matrix, of their own size.
_CLOSE = 1e-3


class NoMaps(ValueError):
    """The scores of an estimator cannot be derived from a map."""


@dataclass(frozen=True, eq=False)
class GradCAM:
    """Scores that can be derived from the maps of a layer.

    For the score s of a target and the map A of a layer, each channel k weighs what the derivative
    of s by A_k is on average over all places, and the map is the sum of the weighed channels,
    without the final ReLU [1]_: what is negative speaks against the target. Where the scores are
    linear in the mean of the map over its places, the sum of the map is the score but for what is
    added to it, which is the class activation map [2]_.

    Attributes
    ----------
    estimator : object
        One that knows its network: it has `_cuts`, `_seen_from` and `_items`.
    answers : callable
        Scores of an input.
    weights : ndarray of shape (n_targets, n_codes) or None
        Scores of the codes; None where the network gives them.

    References
    ----------
    .. [1] R. R. Selvaraju et al. (2017). Grad-CAM: Visual explanations from deep networks via
       gradient-based localization. ICCV. Section 3, equations 1 and 2.
    .. [2] B. Zhou et al. (2016). Learning deep features for discriminative localization. CVPR.
       Section 2, equation 2.
    """

    estimator: Any
    answers: Callable[[Any], Answers]
    weights: np.ndarray | None

    @classmethod
    def of(cls, estimator: Any, X: Any) -> GradCAM:
        """Those of a fitted estimator.

        Raises
        ------
        NoMaps
            If they cannot be derived.
        """
        estimator = getattr(estimator, "best_estimator_", estimator)
        if isinstance(estimator, (FineTuneClassifier, FineTuneRegressor)):
            method = "predict" if is_regressor(estimator) else "decision_function"
            decide = getattr(estimator, method)
            return cls(estimator, lambda X: decisions_of(decide(X), estimator), None)
        if not isinstance(estimator, Pipeline) or not isinstance(estimator[0], CNNCodes):
            raise NoMaps(
                'method="gradcam" needs a FineTuneClassifier, a FineTuneRegressor or a pipeline '
                f"that begins with CNNCodes, got {type(estimator).__name__}. Take "
                'method="occlusion", which works for any estimator.'
            )
        codes, rest = estimator[0], estimator[1:]
        rows = codes.transform(X)
        if rows.ndim != 2:
            raise NoMaps(
                'method="gradcam" needs codes that are rows, and with pooling=None they are maps. '
                'Take method="occlusion".'
            )
        method = "predict" if len(rest) and is_regressor(rest) else "decision_function"
        if not len(rest) or not hasattr(rest, method):
            raise NoMaps(_not_linear(rest))
        ask = getattr(rest, method)
        weights = _linear(lambda codes: decisions_of(ask(codes), rest).scores, rows)
        if weights is None:
            raise NoMaps(_not_linear(rest))
        return cls(codes, lambda X: decisions_of(ask(codes.transform(X)), rest), weights)

    def layers(self, layer: str | int | None) -> list[Layer]:
        """Layers whose maps may be taken, the last first; one if it is asked for.

        Raises
        ------
        LayerError
            If it is no layer, gives no map, or is behind what the scores are made of.
        """
        cuts, last = self.estimator._cuts()
        order = cuts.every()
        before = order[: order.index(last) + 1]
        maps = [one for one in before if one.grid is not None and one.grid != (1, 1)]
        if layer is None:
            if not maps:
                raise LayerError(f"{cuts.name} has no layer that gives a map of an image.")
            return maps[::-1]
        found = cuts.resolve(layer)
        if found not in maps:
            raise LayerError(
                f"layer={layer!r} must give a map of an image, before what the scores are made of. "
                f"Layers near the end that do are {[one.name for one in maps[-5:]]}."
            )
        return [found]

    def maps(
        self, X: Any, columns: np.ndarray, layer: str | int | None
    ) -> tuple[np.ndarray, Layer]:
        """The maps (n_images, h, w) for one target each, and the layer that they are of.

        With no `layer` it is the last on whose places the scores hang: where a class token is
        read, what the last block makes of the patches decides nothing.
        """
        images = self.estimator._items(X)
        candidates = self.layers(layer)
        for one in candidates:
            seen = self.estimator._seen_from(one)
            parts = self._parts(seen, images, columns)
            first = next(parts)
            if one is candidates[-1] or first.any():
                break
        return np.concatenate([first, *parts]), one

    def _parts(
        self, seen: SeenFrom, images: Images, columns: np.ndarray
    ) -> Iterator[np.ndarray]:
        for start in range(0, len(images), _AT_A_TIME):
            numbers = np.arange(start, min(start + _AT_A_TIME, len(images)))
            rows = seen.frozen.rows(Subset(images, numbers, tells=False), keep=False)
            for number, row in zip(numbers, rows, strict=True):
                batch = torch.from_numpy(row[None]).to(seen.device)
                yield self._one(seen, batch, int(columns[number]))

    def _one(self, seen: SeenFrom, batch: torch.Tensor, column: int) -> np.ndarray:
        with running():
            with torch.no_grad():
                values = seen.before(batch).float()
            values = values.detach().requires_grad_()
            # What is behind may work in place.
            outputs = seen.behind(values.clone())
            if self.weights is None:
                score = outputs[0, column]
            else:
                score = outputs[0] @ torch.from_numpy(self.weights[column]).to(outputs)
            (slope,) = torch.autograd.grad(score, values)
        kept, slopes = (as_map(one.detach(), seen.kept) for one in (values, slope))
        weighed = slopes.mean((2, 3), keepdim=True) * kept
        return weighed.sum(1).cpu().numpy()


def _not_linear(rest: Any) -> str:
    last = rest[-1] if len(rest) else rest
    return (
        'method="gradcam" needs scores that are linear in the codes, as those of a linear model '
        f"behind steps that scale, got {type(last).__name__}. Take "
        'method="occlusion", which works for any estimator.'
    )


def _linear(score: Callable[[np.ndarray], np.ndarray], rows: np.ndarray) -> np.ndarray | None:
    """The matrix (n_targets, n_columns) of scores; None if they are not linear in rows.

    It is found by zeros and unit vectors, and believed only if it answers as they do on rows and
    far from them.
    """
    n_columns, rng = rows.shape[1], np.random.default_rng(0)
    far = rng.normal(rows.mean(), 4 * rows.std() + 1e-6, (8, n_columns))
    some = np.concatenate([rows[:100], 4 * rows[:100], far]).astype(np.float64)
    coef, origin = slopes_of(score, np.zeros(n_columns))
    expected = score(some)
    size = np.abs(expected).max()
    if not np.allclose(some @ coef.T + origin, expected, rtol=_CLOSE, atol=_CLOSE * size):
        return None
    return coef
