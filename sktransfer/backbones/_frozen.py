"""The prefix of a network as one module: photographs in, codes of several layers out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import fx, nn

from ..exceptions import BackboneWarning
from ._convolutional import slide_fully_connected
from ._cut import find_head
from ._fingerprint import fingerprint_of_graph
from ._gate import tracing
from ._layers import Layer, LayerTable
from ._nodes import referred
from ._pooling import Pool
from ._sizes import fit_to_size
from ._spec import Backbone
from ._trace import is_faithful, trace

__all__ = ["FrozenNetwork", "freeze", "identity_of", "layer_table"]

_identities: WeakKeyDictionary[fx.GraphModule, dict[str, str]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Normalization:
    """What turns 8-bit pixels into the numbers a network was trained on."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class FrozenNetwork(nn.Module):
    """The part of a network up to the last layer asked for.

    Parameters
    ----------
    prefix : torch.fx.GraphModule
        Normalised pixels (n, c, h, w) to a tuple of codes.
    layers : sequence of Layer
        The layers it gives codes of.
    normalization : Normalization
        Mean and standard deviation of the channels, for pixels in 0 to 1.

    Notes
    -----
    ``forward`` takes uint8 pixels (n, h, w, c), RGB or grey, and gives one tensor per layer; pixels
    travel to the device as bytes and are normalised there.
    """

    prefix: fx.GraphModule
    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(
        self, prefix: fx.GraphModule, layers: Sequence[Layer], normalization: Normalization
    ):
        super().__init__()
        self.prefix, self.layers, self.dtype = prefix, tuple(layers), torch.float32
        mean, std = torch.tensor(normalization.mean), torch.tensor(normalization.std)
        self.register_buffer("scale", (1 / (255 * std)).view(1, -1, 1, 1))
        self.register_buffer("shift", (-mean / std).view(1, -1, 1, 1))

    @property
    def n_channels(self) -> int:
        """Of the images it takes."""
        return self.scale.shape[1]

    def in_precision(self, dtype: torch.dtype) -> FrozenNetwork:
        """Change, in place, what the network computes in; pixels are normalised in float32."""
        self.prefix.to(dtype)
        self.dtype = dtype
        return self

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # A permuted view of (n, h, w, c) is already laid out channels-last.
        image = pixels.permute(0, 3, 1, 2).to(self.scale.dtype)
        return self.prefix((image * self.scale + self.shift).to(self.dtype))


def layer_table(backbone: Backbone, image_size: tuple[int, int]) -> LayerTable:
    """The layers of a backbone and their shapes at an image size."""
    facts, published = backbone.preprocessing, backbone.source not in ("module", "registered")
    with tracing():
        module = fit_to_size(backbone.module, image_size)
        follow = partial(trace, module, image_size, facts.n_channels, usual_size=facts.image_size)
        network = follow()
        if not published:
            differs = is_faithful(network, module, image_size)
            if differs == "graph":
                network = follow(whole="what torch.fx makes of it computes something else")
                # It may differ from itself as well: what Python code draws or counts is not seen.
                differs = is_faithful(network, module, image_size)
            if differs:
                warnings.warn(
                    f"{backbone.name} does not give an image the same output in every batch: it "
                    "draws random numbers, or lets the images of a batch change each other, as a "
                    "batch norm without running statistics does. Its codes are not repeatable.",
                    BackboneWarning,
                    stacklevel=2,
                )
        head = find_head(network, module, published=published)
        # Its own size says of a module what its grid of cells is for.
        if head.nodes and (published or image_size != facts.image_size):
            network = slide_fully_connected(network, image_size)
        return LayerTable(network, backbone.name, image_size, head)


def identity_of(backbone: Backbone, table: LayerTable) -> str:
    """Hash of a network as it was followed at an image size, which is what is run."""
    known = _identities.setdefault(table.network.module, {})
    if backbone.fingerprint not in known:
        known[backbone.fingerprint] = fingerprint_of_graph(
            backbone.fingerprint, backbone.module, table.network.module
        )
    return known[backbone.fingerprint]


def freeze(
    backbone: Backbone, table: LayerTable, layers: Sequence[Layer], pooling: str | None
) -> FrozenNetwork:
    """Cut a network behind the last of some layers, and pool each of them.

    Parameters
    ----------
    backbone : Backbone
        Gives the normalisation.
    table : LayerTable
        Of this backbone; it is not changed and shares its weights with the result.
    layers : sequence of Layer
        Layers of the table.
    pooling : {"avg", "max", "gem", "token", "flatten"} or None

    Returns
    -------
    FrozenNetwork
        In eval mode, without gradients.
    """
    if backbone.preprocessing is None:
        raise ValueError("a frozen network needs the preprocessing of its backbone")
    source = table.network.module
    taps = {table.node(layer): layer for layer in layers}
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    pools: dict[str, nn.Module] = {}
    outputs: dict[Layer, fx.Node] = {}
    for node in source.graph.nodes:
        if len(outputs) == len(taps):
            break
        copies[node] = graph.node_copy(node, copies.__getitem__)
        if node in taps:
            # Pooled at once: an activation that works in place may follow.
            name = f"codes_pool_{len(outputs)}"
            pools[name] = Pool(pooling, taps[node])
            outputs[taps[node]] = graph.call_module(name, (copies[node],))
    graph.output(tuple(outputs[layer] for layer in layers))
    prefix = fx.GraphModule({**referred(source, graph), **pools}, graph, "Prefix")
    prefix.graph.eliminate_dead_code()
    prefix.delete_all_unused_submodules()
    prefix.recompile()
    facts = backbone.preprocessing
    return FrozenNetwork(prefix, layers, Normalization(facts.mean, facts.std)).eval()
