"""Networks whose weights depend on the size of the image, made to fit another size."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

from torch import nn

from ..exceptions import BackboneError
from ._suggest import reason_of

__all__ = ["fit_to_size"]


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
