"""The head starts from a convex fit on the frozen codes, so that it does not distort good weights.

Reference: A. Kumar et al. (2022). Fine-tuning can distort pretrained features and underperform
out-of-distribution. ICLR. Section 4 (LP-FT).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from .._lru import LRU
from ..compute import blas_on_one_core, worker_pool
from ..networks import running
from ._gradients import Dropout, own_draws
from ._model import Scale, has_hooks
from ._tasks import LinearFit, Task, weighted_mean

__all__ = ["fit_head", "linear_layer", "train_head"]


_STEPS, _STEPS_OF_MAPS = 200, 60

# Candidates of a search that differ in their learning rates start from the same head.
_fits: LRU[LinearFit] = LRU(16)


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
    task: Task,
) -> None:
    """Fit a head, in place, on codes of the pretrained network.

    Parameters
    ----------
    head : torch.nn.Module
        A linear one is fitted by scikit-learn's solver, with the scaling of the codes folded
        into its weights; another one by 200 steps of AdamW on all codes at once.
    codes : ndarray of shape (n_samples, width), float32
    target : ndarray
        As `task` encodes it.
    weight : ndarray of shape (n_samples,) or None
    task : Task
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
        worker_pool().submit(_fit_by_steps, head, codes, target, weight, task, seed).result()
        return
    # One scale for all codes: as good as one for each, and no weight is large because its code
    # hardly varied in these images.
    mean = np.average(codes, axis=0, weights=weight)
    scale = float(np.sqrt(np.average((codes - mean) ** 2, axis=0, weights=weight).mean())) or 1.0
    scaled = (codes - mean) / scale
    kind = f"{type(task).__name__} {task.n_outputs}"
    key = _digest(kind, scaled, target, weight, task.class_weight)
    # Not `get`: threads that fit other heads need not wait.
    found = _fits.find(key)
    if found is None:
        with blas_on_one_core(scaled.size * task.n_outputs):
            found = _fits.put(key, task.fit_linear(scaled, target, weight))
    coef, intercept = found
    coef = coef / scale
    intercept = intercept - coef @ mean
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(coef / _multiplier(head)))
        layer.bias.copy_(torch.from_numpy(intercept))


def train_head(
    head: nn.Module,
    maps_of: Callable[[np.ndarray], list[torch.Tensor]],
    target: np.ndarray,
    weight: np.ndarray | None,
    task: Task,
    *,
    lr: float,
    batch_size: int,
    seed: int,
) -> None:
    """Train a head alone, in place, on maps of the pretrained network.

    Parameters
    ----------
    head : torch.nn.Module
    maps_of : callable
        Gives what it takes of some items, by their numbers.
    target : ndarray
        As `task` encodes it.
    weight : ndarray of shape (n_samples,) or None
    task : Task
    lr : float
        Rises in the first third of the steps and falls to zero, as it does in training.
    batch_size : int
    seed : int
        Draws the batches.
    """
    learning = [one for one in head.parameters() if one.requires_grad]
    if not learning:
        return
    task, random = task.unsmoothed(), np.random.default_rng(seed)
    weights = torch.ones(len(target)) if weight is None else torch.from_numpy(weight).float()
    optimizer = torch.optim.AdamW(learning, lr=lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=_STEPS_OF_MAPS)
    head.train()
    order = np.empty(0, np.int64)
    for step in range(_STEPS_OF_MAPS):
        if len(order) < min(batch_size, len(target)):
            order = np.append(order, random.permutation(len(target)))
        some, order = np.sort(order[:batch_size]), order[batch_size:]
        optimizer.zero_grad()
        with own_draws(seed + step), running():
            out = head(maps_of(some)).float()
            losses = task.losses(out, torch.from_numpy(target[some]))
            weighted_mean(losses, weights[some]).backward()
        optimizer.step()
        schedule.step()
    head.eval()


def _multiplier(head: nn.Module) -> float:
    """What a head multiplies its inputs by before its linear layer."""
    return float(np.prod([module.by for module in head.modules() if isinstance(module, Scale)]))


def _digest(kind: str, *arrays: np.ndarray | None) -> bytes:
    digest = hashlib.sha256(kind.encode())
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
    task: Task,
    seed: int,
) -> None:
    x, y = torch.from_numpy(codes), torch.from_numpy(target)
    task = task.unsmoothed()
    w = torch.ones(len(x)) if weight is None else torch.from_numpy(weight).float()
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=1e-2)
    head.train()
    for step in range(_STEPS):
        optimizer.zero_grad()
        with own_draws(seed + step):
            losses = task.losses(head(x), y)
        ((losses * w).sum() / w.sum()).backward()
        optimizer.step()
