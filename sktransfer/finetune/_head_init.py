"""The head starts from a convex fit on the frozen codes, so that it does not distort good weights.

Reference: A. Kumar et al. (2022). Fine-tuning can distort pretrained features and underperform
out-of-distribution. ICLR. Section 4 (LP-FT).
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import cross_val_score
from torch import nn

from .._lru import LRU
from ..compute import worker_pool
from ._gradients import Dropout, own_draws
from ._model import Scale, has_hooks

__all__ = ["fit_head", "linear_layer"]


# Inverse strengths of the penalty on standardised codes; the first is taken where there are too
# few photographs to choose by cross-validation.
_STRENGTHS = (3e-3, 3e-4, 3e-2)
_FOLDS, _ENOUGH = 3, 5000
_ALPHAS = np.logspace(-1, 5, 13)
_STEPS = 200

# Classes that were there, their weights and intercepts.
Probe = tuple[np.ndarray, np.ndarray, np.ndarray]
# Candidates of a search that differ in their learning rates start from the same head.
_probes: LRU[Probe] = LRU(16)


def linear_layer(head: nn.Module) -> nn.Linear | None:
    """The linear layer, with a bias, of a head that is nothing else; None for other heads."""
    passive = (nn.Sequential, nn.Dropout, Dropout, Scale)
    modules = list(head.modules())
    layers = [m for m in modules if type(m) not in passive]
    if len(layers) != 1 or type(layers[0]) is not nn.Linear:
        return None
    if layers[0].bias is None or any(map(has_hooks, modules)):
        return None
    return layers[0]


def fit_head(
    head: nn.Module,
    codes: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None,
    *,
    classes: int | None,
) -> None:
    """Fit a head, in place, on codes of the pretrained network.

    Parameters
    ----------
    head : torch.nn.Module
        A linear one is fitted by scikit-learn's solver, with the scaling of the codes folded
        into its weights; another one by 200 steps of AdamW on all codes at once.
    codes : ndarray of shape (n_samples, width), float32
    target : ndarray
        Numbers of classes, or values of shape (n_samples, n_outputs).
    weight : ndarray of shape (n_samples,) or None
    classes : int or None
        Number of classes; None in regression.
    """
    if weight is not None:
        used = weight > 0
        codes, target, weight = codes[used], target[used], weight[used]
    layer = linear_layer(head)
    if not list(head.parameters()):
        return
    if layer is None:
        # In the pool a thread has one core: sums do not hang on how many there are.
        seed = torch.initial_seed()
        worker_pool().submit(_fit_by_steps, head, codes, target, weight, classes, seed).result()
        return
    # One scale for all codes: as good as one for each, and no weight is large because its code
    # hardly varied in these photographs.
    mean = np.average(codes, axis=0, weights=weight)
    scale = float(np.sqrt(np.average((codes - mean) ** 2, axis=0, weights=weight).mean())) or 1.0
    scaled = (codes - mean) / scale
    if classes is None and len(target) < 2:
        # Nothing to choose a strength by.
        coef, intercept = np.zeros((target.shape[1], codes.shape[1])), target[0]
    elif classes is None:
        probe = RidgeCV(_ALPHAS).fit(scaled, target, sample_weight=weight)
        coef, intercept = np.atleast_2d(probe.coef_), np.atleast_1d(probe.intercept_)
    else:
        coef, intercept = _logistic(scaled, target, weight, classes)
    coef = coef / scale
    intercept = intercept - coef @ mean
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(coef / _multiplier(head)))
        layer.bias.copy_(torch.from_numpy(intercept))


def _multiplier(head: nn.Module) -> float:
    """What a head multiplies its inputs by before its linear layer."""
    return float(np.prod([module.by for module in head.modules() if isinstance(module, Scale)]))


def _logistic(
    codes: np.ndarray, target: np.ndarray, weight: np.ndarray | None, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Weights and intercepts of every class; those without an example are unlikely."""
    key = _digest(codes, target, weight)
    # Not `get`: threads that fit other heads need not wait.
    found = _probes.find(key) or _probes.put(key, _probe(codes, target, weight))
    present, fitted_coef, fitted_intercept = found
    coef = np.zeros((classes, codes.shape[1]))
    # All that have no example together weigh about as much as one example more.
    absent = max(1, classes - len(present))
    intercept = np.full(classes, -np.log(absent * (len(target) + 1.0)))
    if len(present) == 2:
        # One row tells two classes apart; softmax wants half of it for each.
        halves = np.array([[-0.5], [0.5]])
        coef[present] = halves * fitted_coef
        intercept[present] = halves[:, 0] * fitted_intercept
    else:
        coef[present], intercept[present] = fitted_coef, fitted_intercept
    return coef, intercept


def _probe(codes: np.ndarray, target: np.ndarray, weight: np.ndarray | None) -> Probe:
    present, counts = np.unique(target, return_counts=True)
    strength = _STRENGTHS[0]
    if len(present) == 1:
        return present, np.zeros((1, codes.shape[1])), np.zeros(1)
    if counts.min() >= _FOLDS and len(codes) <= _ENOUGH:
        scores = [
            cross_val_score(LogisticRegression(C=c, max_iter=200), codes, target, cv=_FOLDS).mean()
            for c in _STRENGTHS
        ]
        strength = _STRENGTHS[int(np.argmax(scores))]
    probe = LogisticRegression(C=strength, max_iter=1000)
    probe.fit(codes, target, sample_weight=weight)
    return probe.classes_, probe.coef_, probe.intercept_


def _digest(*arrays: np.ndarray | None) -> bytes:
    digest = hashlib.sha256()
    for array in arrays:  # type and shape first, so that no two sets of arrays run together
        digest.update(b"none|" if array is None else f"{array.dtype} {array.shape}|".encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def _fit_by_steps(
    head: nn.Module,
    codes: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None,
    classes: int | None,
    seed: int,
) -> None:
    x, y = torch.from_numpy(codes), torch.from_numpy(target)
    w = torch.ones(len(x)) if weight is None else torch.from_numpy(weight).float()
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=1e-2)
    head.train()
    for step in range(_STEPS):
        optimizer.zero_grad()
        with own_draws(seed + step):
            out = head(x)
        if classes is None:
            losses = ((out - y) ** 2).mean(1)
        else:
            losses = nn.functional.cross_entropy(out, y, reduction="none")
        ((losses * w).sum() / w.sum()).backward()
        optimizer.step()
