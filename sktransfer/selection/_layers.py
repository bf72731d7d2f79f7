"""Which layer: probes on codes by depth, judged on the same folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import cross_val_predict

from ._probe import make_probe

__all__ = [
    "LIKELY",
    "SURE",
    "LayerScore",
    "best_layer",
    "is_better",
    "layer_to_tune",
    "probe_layer",
]

# Standard errors by which another layer must be better for a verdict on the photographs, and to
# be taken: it is taken on weaker grounds, since to keep the last one by mistake costs as much.
SURE, LIKELY = 2.0, 1.0
# Photographs from which on a network that is fine-tuned is better cut behind an earlier layer.
_ENOUGH_TO_CUT = 200


@dataclass(frozen=True, eq=False)
class LayerScore:
    """A probe on the codes of a layer.

    Attributes
    ----------
    name : str
    mean, spread : float
        Of the accuracies of the folds: mean and standard deviation.
    correct : ndarray of bool
        Whether each photograph was told when it was held out.
    probabilities : ndarray of shape (n_samples, n_classes)
        What the probe said of each photograph that it had not learnt from.
    """

    name: str
    mean: float
    spread: float
    correct: np.ndarray
    probabilities: np.ndarray


def probe_layer(name: str, codes: np.ndarray, numbers: np.ndarray, splits: Any) -> LayerScore:
    """Judge a layer by cross-validation; `numbers` are those of classes, from 0 on."""
    said = cross_val_predict(make_probe(), codes, numbers, cv=splits, method="predict_proba")
    correct = said.argmax(axis=1) == numbers
    folds = [correct[test].mean() for _, test in splits]
    return LayerScore(name, float(np.mean(folds)), float(np.std(folds)), correct, said)


def is_better(one: LayerScore, other: LayerScore, errors: float) -> bool:
    """Whether one tells the same photographs better, by so many standard errors."""
    difference = one.correct.astype(float) - other.correct
    error = difference.std() / np.sqrt(len(difference))
    return bool(difference.mean() > errors * error and difference.mean() > 0)


def best_layer(scores: Sequence[LayerScore]) -> LayerScore:
    """The last layer, unless another is likely to be better."""
    last = scores[-1]
    best = max(scores, key=lambda score: score.mean)
    return best if is_better(best, last, LIKELY) else last


def layer_to_tune(scores: Sequence[LayerScore]) -> LayerScore:
    """Where a network ends of which the last stages are fine-tuned.

    With the best of the earlier layers, whether or not the last is better as it is: what learns
    makes an earlier layer as specific as the last one, and more fitting. Of the few photographs
    from which it cannot, the last layer of the pretrained network knows more; and where all
    layers learn, which are the best is as good a guide as for a probe.
    """
    if len(scores) == 1 or len(scores[-1].correct) < _ENOUGH_TO_CUT:
        return scores[-1]
    return max(scores[:-1], key=lambda score: score.mean)
