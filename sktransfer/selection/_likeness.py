"""How far the codes are from those of the photographs that a network was trained on.

A batch norm remembers nothing of single photographs, but its output had, over all of them, the
mean and spread that its own bias and weight say [1]_. Where pooled codes come straight from a batch
norm and an activation, the mean of each channel over the source is known without the source.

.. [1] Y. Li, N. Wang, J. Shi, J. Liu, X. Hou (2017). Revisiting batch normalization for practical
   domain adaptation. ICLR workshop.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from ..backbones._layers import LayerTable

__all__ = ["distance_from_source"]

_POOLS = (nn.AdaptiveAvgPool2d, nn.Flatten, nn.Identity, nn.Dropout)
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.GELU, nn.ELU, nn.LeakyReLU)
_FUNCTIONS = {"adaptive_avg_pool2d": None, "flatten": None, "relu": nn.ReLU()}


def distance_from_source(table: LayerTable, codes: np.ndarray) -> float | None:
    """Distance of mean codes from those of the source, in spreads of the source.

    Parameters
    ----------
    table : LayerTable
    codes : ndarray of shape (n_samples, width)
        Of the layer before the classifier, averaged over positions, not normalised.

    Returns
    -------
    distance : float or None
        Root of the mean over channels of the squared difference of means, each divided by the
        channel's standard deviation over the source's positions. None where the codes do not come
        straight from a batch norm.
    """
    found = _norm_before(table)
    if found is None or len(codes) == 0:
        return None
    mean, deviation = _moments(*found)
    if codes.shape[1] != len(mean):
        return None
    known = deviation > 1e-6
    shifts = (codes.mean(axis=0)[known] - mean[known]) / deviation[known]
    return float(np.sqrt(np.mean(shifts**2)))


def _norm_before(table: LayerTable) -> tuple[nn.Module, list[nn.Module]] | None:
    """The batch norm whose output is pooled to codes, and the activations in between."""
    modules = dict(table.network.module.named_modules())
    node, between = table.node(table.layers[-1]), list[nn.Module]()
    while len(node.all_input_nodes) == 1:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.BatchNorm2d):
            inside = getattr(module, "act", None)  # timm's norms activate too
            return module, [*([inside] if isinstance(inside, nn.Module) else []), *between]
        if not _goes_on(node, module, between):
            return None
        (node,) = node.all_input_nodes
    return None


def _goes_on(node: Any, module: nn.Module | None, between: list[nn.Module]) -> bool:
    """Whether a node pools or activates; notes what activates."""
    name = getattr(node.target, "__name__", str(node.target))
    if isinstance(module, _ACTIVATIONS):
        between.insert(0, module)
    elif module is None and name in _FUNCTIONS:
        activation = _FUNCTIONS[name]
        if activation is not None:
            between.insert(0, activation)
    else:
        return isinstance(module, _POOLS)
    return True


def _moments(norm: Any, activations: list[nn.Module]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each channel behind the activations, if normal before them."""
    places, weights = np.polynomial.hermite_e.hermegauss(63)
    width = norm.num_features
    scale = torch.ones(width) if norm.weight is None else norm.weight.detach().abs()
    shift = torch.zeros(width) if norm.bias is None else norm.bias.detach()
    values = shift.double()[:, None] + scale.double()[:, None] * torch.from_numpy(places)
    with torch.no_grad():
        for activation in activations:
            values = activation(values.clone())
    share = torch.from_numpy(weights / weights.sum())
    mean = (values * share).sum(1)
    deviation = ((values - mean[:, None]) ** 2 * share).sum(1).sqrt()
    return mean.numpy(), deviation.numpy()
