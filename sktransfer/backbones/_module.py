"""Networks that experts bring as modules."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..exceptions import BackboneError, PreprocessingError
from ._build import finish
from ._fingerprint import describe_code, fingerprint
from ._spec import Backbone, Preprocessing, as_preprocessing

__all__ = ["check_network", "from_module"]


def from_module(
    module: nn.Module, preprocessing: Preprocessing | Mapping[str, Any] | str | None
) -> Backbone:
    """Make a backbone of a copy of a module.

    Parameters
    ----------
    module : torch.nn.Module
        For normalised images (n, 3, h, w). It is not changed.
    preprocessing : Preprocessing or dict
        What its images must be.

    Raises
    ------
    PreprocessingError
        If `preprocessing` is not given.
    BackboneError
        If the module cannot be copied or is of a kind that cannot be cut.
    """
    network = _unwrapped(module)
    name = type(network).__name__
    if preprocessing is None or isinstance(preprocessing, str):
        raise PreprocessingError(
            f"backbone is a module ({name}), which does not tell how its images are prepared, "
            f"and preprocessing={preprocessing!r}. Pass "
            "preprocessing=Preprocessing(image_size=..., mean=..., std=...) with what it was "
            "trained on."
        )
    facts = as_preprocessing(preprocessing)
    check_network(network, f"backbone, a module ({name}),")
    try:
        copied = finish(copy.deepcopy(network))
    except (RuntimeError, TypeError) as error:
        raise BackboneError(f"backbone, a module ({name}), cannot be copied: {error}.") from error
    return Backbone(
        name=name.lower(),
        source="module",
        reference=None,
        weights=None,
        module=copied,
        preprocessing=facts,
        fingerprint=fingerprint(f"module\n{describe_code(copied)}", copied),
        portable=False,
    )


def _unwrapped(module: nn.Module) -> nn.Module:
    """The network inside torch.compile's and DataParallel's wrappers."""
    while True:
        inner = getattr(module, "_orig_mod", None)
        if inner is None and isinstance(
            module, (nn.DataParallel, nn.parallel.DistributedDataParallel)
        ):
            inner = module.module
        if not isinstance(inner, nn.Module):
            return module
        module = inner


def check_network(module: nn.Module, what: str) -> None:
    """Refuse modules that cannot be cut or have no weights yet.

    Raises
    ------
    BackboneError
        The message says what to pass instead.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise BackboneError(
            f"{what} is a TorchScript program, whose graph cannot be cut. Pass the module it "
            "was made from."
        )
    # Every network of timm has a classifier, or a place for one, unless it was left out.
    if hasattr(module, "feature_info") and not hasattr(module, "get_classifier"):
        raise BackboneError(
            f"{what} was made with timm's features_only=True and gives several maps. Pass the "
            "plain network, and the layers wanted as layer=[...]."
        )
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if nn.parameter.is_lazy(tensor) or tensor.is_meta:
            raise BackboneError(
                f"{what} has no weights yet: {name} is empty. Run a lazy module once, or load "
                "the weights."
            )
