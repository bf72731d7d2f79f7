"""Networks that experts bring as modules."""

from __future__ import annotations

import copy
import re
import types
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.conv import _ConvNd

from ..exceptions import BackboneError, PreprocessingError, shown
from ._fingerprint import fingerprint_of_module
from ._spec import Backbone, Preprocessing, as_preprocessing, reason_of
from ._tracer import HOOKS
from ._weights import finish

__all__ = ["check_network", "copy_module", "from_module", "settle_channels"]


_NO_NAME = re.compile(r"[\"'\\\x00-\x1f\x7f\x85\u2028\u2029]")


def from_module(
    module: nn.Module, preprocessing: Preprocessing | Mapping[str, Any] | str | None
) -> Backbone:
    """Make a backbone of a copy of a module.

    Parameters
    ----------
    module : torch.nn.Module
        For normalised images (n, 3, h, w), or (n, 1, h, w) in grey. It is not changed.
    preprocessing : Preprocessing, dict, transforms or None
        What its images must be; None for a network of timm, which tells it.

    Raises
    ------
    PreprocessingError
        If `preprocessing` is not given.
    BackboneError
        If the module cannot be copied or is of a kind that cannot be cut.
    """
    network = _unwrapped(module)
    name = type(network).__name__
    facts = _facts(network, name, preprocessing)
    what = f"backbone, a module ({name}),"
    check_network(network, what)
    try:
        copied = finish(copy_module(network))
    except Exception as error:
        raise BackboneError(f"{what} cannot be copied: {reason_of(error)}.") from error
    return Backbone(
        name=name.lower(),
        source="module",
        reference=None,
        weights=None,
        module=copied,
        preprocessing=settle_channels(copied, facts, what),
        fingerprint=fingerprint_of_module("module", copied),
        portable=False,
    )


def _facts(network: Any, name: str, preprocessing: Any) -> Preprocessing:
    """What was passed, or what a network of timm tells."""
    if preprocessing is not None and not isinstance(preprocessing, str):
        return as_preprocessing(preprocessing)
    told = getattr(network, "pretrained_cfg", None) or getattr(network, "default_cfg", None)
    if preprocessing in (None, "default") and told:
        from ._timm import preprocessing_of

        facts = preprocessing_of(told, f"backbone, a module ({name}),")
        size = getattr(getattr(network, "patch_embed", None), "img_size", None)
        return replace(facts, image_size=tuple(size)) if size else facts
    raise PreprocessingError(
        f"backbone is a module ({name}), which does not tell how its images are prepared, "
        f"and preprocessing={shown(repr(preprocessing))}. Pass "
        "preprocessing=Preprocessing(image_size=..., mean=..., std=...) with what it was "
        "trained on, or weights.transforms() of torchvision's weights."
    )


def settle_channels(module: nn.Module, facts: Preprocessing, what: str) -> Preprocessing:
    """Give mean and std as many numbers as a network, in eval mode, takes channels.

    Raises
    ------
    BackboneError
        If it takes neither 3 channels nor 1.
    PreprocessingError
        If mean and std are of another number of channels.
    """
    layers = (m for m in module.modules() if isinstance(m, _ConvNd))
    first = next(layers, None)
    if first is None or (isinstance(first, nn.Conv2d) and first.in_channels == facts.n_channels):
        return facts
    if _takes(module, facts):  # its first layer is not the one that was registered first
        return facts
    if not isinstance(first, nn.Conv2d):
        raise BackboneError(
            f"{what} begins with a {type(first).__name__}, but images have two dimensions: it "
            "must take tensors (n, channels, height, width)."
        )
    n = first.in_channels
    if n not in (1, 3):
        raise BackboneError(
            f"{what} takes images of {n} channels, by its first convolution; a backbone must take "
            "3 (RGB) or 1 (grey)."
        )
    settled = facts.for_channels(n)
    if settled is None:
        raise PreprocessingError(
            f"{what} takes images of {n} channel{'s' * (n > 1)}, so mean and std of "
            f"preprocessing= must have {n} number{'s' * (n > 1)} each, got mean={facts.mean} and "
            f"std={facts.std}."
        )
    return settled


def _takes(module: nn.Module, facts: Preprocessing) -> bool:
    try:
        with torch.no_grad():
            module(torch.zeros(1, facts.n_channels, *facts.image_size))
    except Exception:
        return False
    return True


def copy_module(module: nn.Module) -> nn.Module:
    """A copy that shares nothing that is computed with.

    Functions are not copied by Python. One in the place of `forward`, or a hook, that holds parts
    of the module would continue computing with the original.
    """
    copies: dict[int, Any] = {}
    for part in module.modules():
        for value in vars(part).values():
            # What hooks computed of weights; torch copies no result of a computation.
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                copies[id(value)] = value.detach().clone()
    copied = without_recorders(copy.deepcopy(module, copies))
    for part in copied.modules():
        own = vars(part)
        for place in (own, *(own[name] for name in HOOKS if name in own)):
            for name, value in place.items():
                if isinstance(value, types.FunctionType) and value.__closure__:
                    place[name] = _rebound(value, copies)
    return copied


def without_recorders(module: nn.Module) -> nn.Module:
    """Take off, in place, the hooks by which transformers gives hidden states.

    It puts them on when they are first asked for, and again where they are missing. They compute
    nothing, and cannot be pickled.
    """
    for part in module.modules():
        hooks = part._forward_hooks
        for number, hook in list(hooks.items()):
            if getattr(hook, "__module__", None) == "transformers.utils.output_capturing":
                del hooks[number]
        vars(part).pop("_output_capturing_hooks_installed", None)
    return module


def _rebound(function: types.FunctionType, copies: dict[int, Any]) -> types.FunctionType:
    """A function that holds copies in the place of originals."""
    cells = []
    for cell in function.__closure__ or ():
        try:
            held = cell.cell_contents
        except ValueError:  # not yet filled
            held = None
        owner = getattr(held, "__self__", held)
        if isinstance(owner, nn.Module) and id(owner) in copies:
            cell = types.CellType(copy.deepcopy(held, copies))
        cells.append(cell)
    rebound = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__,
        tuple(cells),
    )  # fmt: skip
    rebound.__kwdefaults__, rebound.__qualname__ = function.__kwdefaults__, function.__qualname__
    rebound.__dict__.update(vars(function))
    return rebound


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
    """Refuse modules that cannot be cut, have no weights yet, or names that are code.

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
    if _is_quantized(module):
        raise BackboneError(
            f"{what} is quantized, and its graph cannot be cut. Pass the network in float32 that "
            'it was made from; precision="bfloat16" computes faster.'
        )
    # Every network of timm has a classifier, or a place for one, unless it was left out.
    if hasattr(module, "feature_info") and not hasattr(module, "get_classifier"):
        raise BackboneError(
            f"{what} was made with timm's features_only=True and gives several maps. Pass the "
            "plain network, and the layers wanted as layer=[...]."
        )
    for part in module.modules():
        for names in (vars(part), part._parameters, part._buffers, part._modules):
            for name in names:
                # torch.fx writes names into a program, which it runs.
                if _NO_NAME.search(str(name)):
                    raise BackboneError(
                        f"{what} has a part that is called {name!r}. Names must hold no quotes, "
                        "backslashes and line breaks."
                    )
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if nn.parameter.is_lazy(tensor) or tensor.is_meta:
            raise BackboneError(
                f"{what} has no weights yet: {name} is empty. Run a lazy module once, or load "
                "the weights."
            )


# What marks where a network may be quantized, and hands its input on until it is.
_STUBS = {"QuantStub", "DeQuantStub", "FloatFunctional"}


def _is_quantized(module: nn.Module) -> bool:
    """Whether any part computes with integers in the place of its weights, or is about to."""
    for part in module.modules():
        home = type(part).__module__
        if "quant" in home and home.startswith("torch.") and type(part).__name__ not in _STUBS:
            return True
        if home.split(".")[0] in ("torchao", "bitsandbytes", "auto_gptq", "awq", "optimum"):
            return True
        if isinstance(part, fx.GraphModule) and any(
            "quantize" in str(node.target) for node in part.graph.nodes
        ):
            return True
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_quantized or type(tensor.data).__module__.startswith("torchao"):
            return True
    return False
