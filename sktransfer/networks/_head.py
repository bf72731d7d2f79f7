"""Where the graph of a network can be cut, and what of it is its classifier."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from ._trace import TracedNetwork
from ._tracer import is_plain

__all__ = [
    "Head",
    "cut_nodes",
    "find_head",
    "is_passive",
    "is_passive_module",
    "weight_dimensions",
]


# A cut point is an operation after which it alone is alive: everything that follows needs
# nothing of the image but this one tensor. Inside a residual block the shortcut is alive as
# well, so a block can be cut only behind its sum; that holds for every family of networks,
# and no table of layers is needed.


_PASSIVE_MODULES = (nn.Dropout, nn.Dropout2d, nn.Identity, nn.Flatten)
_PASSIVE_FUNCTIONS = {"flatten", "dropout", "contiguous", "_assert", "squeeze", "reshape", "view"}


def cut_nodes(network: TracedNetwork) -> list[fx.Node]:
    """Operations after which exactly one tensor is alive, in order of computation."""
    nodes = network.nodes
    last_use = _last_uses(network)
    cuts: list[fx.Node] = []
    alive: set[fx.Node] = set()
    for position, node in enumerate(nodes):
        if node in network.data:
            alive.add(node)
        alive = {other for other in alive if last_use.get(other, -1) > position}
        if len(alive) == 1:
            (only,) = alive
            if only in network.shapes and only.op != "placeholder" and only not in cuts[-1:]:
                cuts.append(only)
    return cuts


def _last_uses(network: TracedNetwork) -> dict[fx.Node, int]:
    """Where each operation's result is read last; of the image, where more is than its size."""
    position = {node: i for i, node in enumerate(network.nodes)}
    last: dict[fx.Node, int] = {}
    for node in network.nodes:
        users = [one for one in node.users if node.op != "placeholder" or one in network.data]
        if users:
            last[node] = max(position[user] for user in users)
    return last


@dataclass(frozen=True)
class Head:
    """What of a network is taken for its classifier.

    Attributes
    ----------
    nodes : tuple of Node
        Its layers with weights, in order; empty if there is none, and the network's output is
        its code.
    guess : str
        The reason that was no more than likely; empty where there is no doubt.
    """

    nodes: tuple[fx.Node, ...] = ()
    guess: str = ""


# Names of layers by which people and libraries tell what they are, as parts of a path.
_CLASSIFIERS = re.compile(r"^fc(\d+|_.*)?$|classif|^cls|head|logit|^pred|^last_linear$", re.I)
_EMBEDDINGS = {
    "emb", "embed", "embeds", "embedding", "embeddings", "embedder", "proj", "project",
    "projection", "projections", "projector", "latent", "latents", "hash", "hashes", "hashing",
    "neck", "bottleneck",
}  # fmt: skip
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
# Parts of a path that say nothing of what a layer is for.
_PLACES = {"weight", "kernel", "linear", "lin", "dense", "layer", "layers"}
# What makes another thing of outputs than scores of classes.
_ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Hardswish, nn.Tanh, nn.Hardtanh, nn.Softplus,
)  # fmt: skip
_ACTIVATING = {
    "relu", "relu_", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "hardswish",
    "tanh", "tanh_", "hardtanh", "softplus",
}  # fmt: skip
_NORMALIZING = {"normalize", "norm", "vector_norm"}
_LINEAR = {"linear", "matmul", "mm", "addmm", "einsum", "__matmul__"}


def find_head(network: TracedNetwork, module: Any, *, published: bool) -> Head:
    """Tell the classifier of a network from the layers of an embedding.

    Parameters
    ----------
    network : TracedNetwork
    module : torch.nn.Module
        What it was traced from.
    published : bool
        Whether it is a network by name, which was trained to classify.

    Notes
    -----
    timm's networks say what their classifier is. In other modules it is what the output is
    made of last, if that is linear layers, whose output is a row of numbers with no activation
    but softmax or sigmoid behind. It is taken for an embedding where its own name holds such a
    word as "emb" or "proj", or where no name tells and the number of outputs is a usual
    width of embeddings and of hardly any set of classes: 2ⁿ or 3·2ⁿ, from 64 on.
    """
    if _says_it_has_none(module):
        return Head()
    nodes = _last_layers(network)
    if published or not nodes:
        return Head(tuple(nodes))
    names = [network.names.get(node, "") for node in nodes]
    known = hasattr(module, "get_classifier")
    if not known and not all(_scores(node, network) for node in nodes):
        return Head()
    if not known and any(map(_named_embedding, names)):
        return Head()
    if known or all(map(_named_so, names)):
        return Head(tuple(nodes))
    width = max(network.shapes[node][-1] for node in network.outputs.values())
    if _is_width(width):
        return Head((), f"has {width} outputs, a usual width of embeddings")
    return Head(tuple(nodes), "is a linear layer whose name does not say what it is for")


def _says_it_has_none(module: Any) -> bool:
    """Whether timm's way of telling says that the classifier was taken away."""
    try:
        classifier = module.get_classifier() if hasattr(module, "get_classifier") else module
    except Exception:
        return False
    several = classifier if isinstance(classifier, (tuple, list)) else (classifier,)
    return all(one is None or type(one) is nn.Identity for one in several)


def _named_so(name: str) -> bool:
    return any(_CLASSIFIERS.search(part) for part in name.split("."))


def _named_embedding(name: str) -> bool:
    """Whether the last part of a path that says what a layer is for tells of an embedding."""
    parts = name.split(".")
    while len(parts) > 1 and (parts[-1].isdigit() or parts[-1].lower() in _PLACES):
        parts.pop()
    words = {word.lower() for word in _WORDS.findall(parts[-1])}
    return bool(words & _EMBEDDINGS)


def _is_width(n: int) -> bool:
    """2ⁿ or 3·2ⁿ, from 64 on."""
    odd = n // (n & -n) if n else 0
    return n >= 64 and odd in (1, 3)


def _last_layers(network: TracedNetwork) -> list[fx.Node]:
    """The layers with weights that make the output: one for most networks.

    Found by walking back from the output to the nearest operations with weights. Those that
    are a norm (one-dimensional weights) are left out: behind the trunk there is no classifier.
    """
    found: list[fx.Node] = []
    for node in _walk_back(network):
        if weight_dimensions(node, network) >= 2:
            found.append(node)
    order = {node: i for i, node in enumerate(network.nodes)}
    return sorted(found, key=order.__getitem__)


def _walk_back(network: TracedNetwork) -> list[fx.Node]:
    """Operations from the output back to the nearest ones with weights, these included."""
    output = next(node for node in network.nodes if node.op == "output")
    seen: dict[fx.Node, None] = {}
    waiting = [node for node in output.all_input_nodes if node in network.data]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen[node] = None
        if weight_dimensions(node, network) == 0:
            waiting.extend(n for n in node.all_input_nodes if n in network.data)
    return list(seen)


def _scores(node: fx.Node, network: TracedNetwork) -> bool:
    """Whether a layer can be one that gives scores of classes."""
    module = _module(node, network)
    behind = [other for other in _walk_back(network) if other is not node]
    if any(_is_named(other, _NORMALIZING) for other in behind):
        return False
    named = _named_so(network.names.get(node, ""))
    rows = all(_is_row(network.shapes.get(out, ())) for out in network.outputs.values())
    activated = any(
        _is_named(other, _ACTIVATING) or isinstance(_module(other, network), _ACTIVATIONS)
        for other in behind
    )
    if isinstance(module, nn.Conv2d):  # of every place, in front of a mean or of a mask
        pointwise = tuple(module.kernel_size) == (1, 1)
        return pointwise and (named or (rows and not activated))
    linear = isinstance(module, nn.Linear) or _is_named(node, _LINEAR)
    return linear and rows and not activated


def _module(node: fx.Node, network: TracedNetwork) -> nn.Module | None:
    return network.module.get_submodule(str(node.target)) if node.op == "call_module" else None


def _is_named(node: fx.Node, names: set[str]) -> bool:
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    return name in names


def _is_row(shape: tuple[int, ...]) -> bool:
    """Whether one image's output is a row of numbers, perhaps with axes of length 1."""
    return sum(n > 1 for n in shape[1:]) <= 1


def weight_dimensions(node: fx.Node, network: TracedNetwork) -> int:
    """Most dimensions of the weights an operation uses; 0 if it has none."""
    if node.op == "call_module":
        module = network.module.get_submodule(str(node.target))
        return max((p.ndim for p in module.parameters()), default=0)
    computed = _is_named(node, _LINEAR)  # from weights, such as normalised ones
    constants = [
        source
        for source in node.all_input_nodes
        if source.op == "get_attr" or (computed and source not in network.data)
    ]
    return max((len(network.shapes.get(source, ())) for source in constants), default=0)


def is_passive(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether an operation hands its input on: same numbers, perhaps another shape."""
    if node.op == "call_module":
        return is_passive_module(modules[str(node.target)])
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    return name in _PASSIVE_FUNCTIONS


def is_passive_module(module: nn.Module) -> bool:
    """Whether a module in eval mode hands its input on."""
    return isinstance(module, _PASSIVE_MODULES) and is_plain(module)
