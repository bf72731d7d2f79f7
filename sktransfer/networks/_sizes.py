"""Networks whose weights depend on the size of the image, made to fit another size."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import torch
from torch import fx, nn

from ..exceptions import BackboneError
from ._head import is_passive_module
from ._spec import reason_of
from ._trace import TracedNetwork, retrace_shapes
from ._tracer import is_plain, module_of, replace_module

__all__ = ["fit_to_size", "slide_fully_connected"]


def fit_to_size(module: Any, image_size: tuple[int, int]) -> nn.Module:
    """Return the module, or a copy whose position embeddings fit an image size.

    Convolutional networks take any size and come back as they are. For vision transformers
    the position embeddings are interpolated, by timm's or torchvision's own code.

    Parameters
    ----------
    module : torch.nn.Module
        It is not changed.
    image_size : tuple of int
        Height and width in pixels.

    Raises
    ------
    BackboneError
        If the network cannot take this size.
    """
    from torchvision.models import VisionTransformer

    try:
        if isinstance(module, VisionTransformer):
            return _torchvision_vit(module, image_size)
        if hasattr(module, "set_input_size") and _differs(module, image_size):
            module = copy.deepcopy(module)
            module.set_input_size(img_size=image_size)
    except (ValueError, AssertionError, RuntimeError, TypeError) as error:
        raise BackboneError(
            f"{type(module).__name__} cannot be fitted to images of "
            f"{image_size[0]}×{image_size[1]} pixels: {reason_of(error)}. "
            "Take a multiple of its patch size, or image_size=None."
        ) from error
    return module


def _differs(module: Any, image_size: tuple[int, int]) -> bool:
    size = getattr(getattr(module, "patch_embed", None), "img_size", None)
    return size is None or tuple(size) != image_size


def _torchvision_vit(module: Any, image_size: tuple[int, int]) -> nn.Module:
    from torchvision.models.vision_transformer import interpolate_embeddings

    height, width = image_size
    if height == width == module.image_size:
        return module
    if height != width or height % module.patch_size:
        raise ValueError(
            f"height and width must be one multiple of {module.patch_size}, "
            f"but are {height} and {width}"
        )
    embedding = OrderedDict([("encoder.pos_embedding", module.encoder.pos_embedding)])
    fitted = interpolate_embeddings(height, module.patch_size, embedding)
    module = copy.deepcopy(module)
    module.image_size = height
    module.seq_length = fitted["encoder.pos_embedding"].shape[1]
    module.encoder.pos_embedding = nn.Parameter(
        fitted["encoder.pos_embedding"].detach(), requires_grad=False
    )
    return module


# Fully connected layers slid over larger images.
#
# AlexNet and VGG squeeze the map of any image to the 6×6 or 7×7 cells that their first fully
# connected layer expects. A fully connected layer on k×k cells is a k×k convolution, so on
# an image larger than the native size it can be applied at every place instead, which keeps
# what the image shows at the scale the network was trained on.
#
# References
# ----------
# P. Sermanet et al. (2014). OverFeat, section 3.5. J. Long, E. Shelhamer, T. Darrell (2015).
# Fully convolutional networks for semantic segmentation, section 3.1.


_POINTWISE = (nn.ReLU, nn.Hardswish, nn.SiLU, nn.GELU, nn.Sigmoid, nn.Tanh)


def slide_fully_connected(network: TracedNetwork, image_size: tuple[int, int]) -> TracedNetwork:
    """Apply the fully connected layers convolutionally, where the image is large enough.

    Parameters
    ----------
    network : TracedNetwork
        It is changed; its weights are not.
    image_size : tuple of int
        Height and width of the input in pixels.

    Returns
    -------
    TracedNetwork
        The same object. Networks without a grid of cells before a fully connected layer,
        and images that give no more cells than that grid, leave it as it is.
    """
    for pool in network.nodes:
        grid = _grid(pool, network)
        if grid is None or not _larger(network.shapes[_source(pool)][2:], grid):
            continue
        chain = _chain(pool, network)
        if chain:
            _rewrite(pool, chain, grid, network)
            return retrace_shapes(network, image_size)
    return network


def _source(node: fx.Node) -> fx.Node:
    return node.all_input_nodes[0]


def _grid(node: fx.Node, network: TracedNetwork) -> tuple[int, int] | None:
    module = module_of(network.module, node)
    if not isinstance(module, nn.AdaptiveAvgPool2d) or not is_plain(module):
        return None
    size: Any = module.output_size
    height, width = (size, size) if isinstance(size, int) else size
    return None if not height or not width or height * width == 1 else (height, width)


def _larger(cells: tuple[int, ...], grid: tuple[int, int]) -> bool:
    return cells[0] >= grid[0] and cells[1] >= grid[1] and tuple(cells) != grid


def _chain(pool: fx.Node, network: TracedNetwork) -> list[fx.Node]:
    """Operations behind the grid up to the output; empty if one of them cannot slide."""
    chain: list[fx.Node] = []
    node = pool
    while len(node.users) == 1:
        (node,) = node.users
        if node.op == "output":
            linear = any(isinstance(module_of(network.module, n), nn.Linear) for n in chain)
            return chain if linear else []
        module = module_of(network.module, node)
        if module is not None and not is_plain(module):
            return []
        flattens = node.target is torch.flatten or isinstance(module, nn.Flatten)
        slides = isinstance(module, (nn.Linear, *_POINTWISE)) or (
            module is not None and is_passive_module(module)
        )
        if not (slides or flattens):
            return []
        chain.append(node)
    return []


def _rewrite(
    pool: fx.Node, chain: list[fx.Node], grid: tuple[int, int], network: TracedNetwork
) -> None:
    kernel = grid
    for node in chain:
        module = module_of(network.module, node)
        if isinstance(module, nn.Linear):
            replace_module(network.module, str(node.target), _as_convolution(module, kernel))
            kernel = (1, 1)
        elif node.target is torch.flatten or isinstance(module, nn.Flatten):
            node.replace_all_uses_with(_source(node))
            network.module.graph.erase_node(node)
    pool.replace_all_uses_with(_source(pool))
    network.module.graph.erase_node(pool)
    network.module.recompile()


def _as_convolution(linear: nn.Linear, kernel: tuple[int, int]) -> nn.Conv2d:
    channels = linear.in_features // (kernel[0] * kernel[1])
    with torch.device("meta"):
        convolution = nn.Conv2d(channels, linear.out_features, kernel, bias=linear.bias is not None)
    weight = linear.weight.detach().reshape(linear.out_features, channels, *kernel)
    convolution.weight = nn.Parameter(weight, requires_grad=False)
    if linear.bias is not None:
        convolution.bias = nn.Parameter(linear.bias.detach(), requires_grad=False)
    return convolution.train(linear.training)
