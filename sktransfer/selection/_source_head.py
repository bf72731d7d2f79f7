"""What the network's own classifier says, from the codes before it."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax
from torch import nn

from ..backbones._cut import is_passive
from ..backbones._layers import LayerTable
from ..exceptions import LayerError

__all__ = ["source_probabilities"]


def source_probabilities(table: LayerTable, codes: np.ndarray) -> np.ndarray:
    """Probabilities of the classes that the network was trained on.

    Parameters
    ----------
    table : LayerTable
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


def _linear_head(table: LayerTable) -> nn.Linear:
    layer, module = table.layers[-1], table.network.module
    nodes = table.network.nodes
    behind = nodes[nodes.index(table.node(layer)) + 1 : -1]
    modules = dict(module.named_modules())
    working = [node for node in behind if not is_passive(node, modules)]
    if not working:
        raise LayerError("the network has no classifier of its own")
    (first, *others) = [modules.get(str(node.target)) for node in working]
    if others or not isinstance(first, nn.Linear):
        names = ", ".join(table.network.names.get(node) or str(node.target) for node in working)
        raise LayerError(
            f"the network's own classifier is not one linear layer behind the codes, but {names}"
        )
    if first.in_features != layer.n_channels or np.prod(layer.shape) != layer.n_channels:
        raise LayerError(f"the classifier takes more than the pooled codes of {layer.name!r}")
    return first
