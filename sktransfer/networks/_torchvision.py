"""Classification networks of torchvision."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..exceptions import WeightsMismatchError, WeightsUnavailableError, did_you_mean, shown
from ._download import cached_download, digest_in_name
from ._spec import Preprocessing, as_preprocessing
from ._weights import (
    Architecture,
    Pretrained,
    build_random,
    find_weights,
    load_any_head,
    named,
    read_state,
)

__all__ = ["TorchvisionArchitecture", "torchvision_names"]


State = Mapping[str, torch.Tensor]

# The published weights of these two were trained on pixels in -1 to 1, and torchvision turns
# its usual normalisation into that inside the network; but only if it loads them itself.
# Auxiliary classifiers serve training from scratch and are no part of the network in eval mode.
_INCEPTIONS: dict[str, Any] = {"transform_input": True, "aux_logits": False, "init_weights": False}
_OPTIONS = {"googlenet": _INCEPTIONS, "inception_v3": _INCEPTIONS}
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")

_VIT_HEAD = ("heads.head.weight", "heads.head.bias")

# DenseNets were published with names such as "norm.1", which modules may no longer have.
_DENSE = re.compile(r"(.*denselayer\d+\.(?:norm|conv))\.([12]\..*)")


def torchvision_names() -> list[str]:
    """Names of the classification networks; not of detectors, nor of quantised networks."""
    from torchvision import models

    return models.list_models(module=models)


class TorchvisionArchitecture(Architecture):
    """A network of ``torchvision.models``.

    The default weights are ``IMAGENET1K_V1`` wherever they exist: the recipe of ``_V2``
    (label smoothing, mixup) makes a better classifier of ImageNet but worse codes.

    References
    ----------
    S. Kornblith, T. Chen, H. Lee, M. Norouzi (2021). Why do better loss functions lead to
    less transferable features? NeurIPS.
    """

    source = "torchvision"

    def __init__(self, name: str):
        self.name = name
        self.reference = self.identity = f"torchvision:{name}"

    def build(self, num_classes: int | None = None, **options: Any) -> nn.Module:
        from torchvision import models

        options = {**_OPTIONS.get(self.name, {}), **options}
        return models.get_model(self.name, weights=None, num_classes=num_classes or 1000, **options)

    def random(self) -> nn.Module:
        options: dict[str, Any] = {"init_weights": True} if self.name in _OPTIONS else {}
        if self.name.startswith("vit_"):
            options["image_size"] = self.default_preprocessing().image_size[0]
        return build_random(lambda: self.build(**options))

    def weights_names(self) -> list[str]:
        names = list(self._entries())
        first = "IMAGENET1K_V1" if "IMAGENET1K_V1" in names else self._family()["DEFAULT"].name
        return sorted(names, key=lambda name: name != first)

    def default_preprocessing(self) -> Preprocessing:
        return as_preprocessing(self._entries()[self.weights_names()[0]].transforms())

    def default_of(self, weights: str) -> str:
        theirs, ours = self._family()["DEFAULT"].name, self.weights_names()[0]
        if weights.isupper() and theirs != ours:
            raise WeightsUnavailableError(
                f'weights="DEFAULT" of {self.reference} may mean two things: torchvision\'s own '
                f'default is {theirs}, and "default" here is {ours}, which gives better codes. '
                f'Write weights="{theirs}" or weights="default".'
            )
        return "default"

    def pretrained(self, weights: str) -> Pretrained:
        name = self._resolve(weights)
        entry = self._entries()[name]
        what = f"{self.reference} with weights {name}"
        path = cached_download(entry.url, what)
        module = self.from_state(read_state(path), str(path))
        return Pretrained(module, name, as_preprocessing(entry.transforms()))

    def published(self, path: Path, sha256: str) -> tuple[str, Preprocessing] | None:
        for name, entry in self._entries().items():
            digits = digest_in_name(entry.url)
            if digits is None:
                continue
            if sha256.startswith(digits):
                return name, as_preprocessing(entry.transforms())
            if path.name == entry.url.rpartition("/")[2]:
                raise WeightsMismatchError(
                    f"{shown(path)} has the name of {self.name}'s {name} but another content: its "
                    f"SHA-256 must start with {digits}, but is {sha256}. Fetch it again from "
                    f"{entry.url}; or, if it holds weights of your own, rename it."
                )
        return None

    def from_state(self, state: State, what: str) -> nn.Module:
        if any(_DENSE.fullmatch(name) for name in state):
            state = {_DENSE.sub(r"\1\2", name): tensor for name, tensor in state.items()}
        options = {}
        if self.name.startswith("vit_"):
            state, prefix = find_weights(state, self.structure().state_dict(), what, _VIT_HEAD)
            what, options = named(what, prefix), _image_size_of(state)
        return load_any_head(lambda n: self.build(n, **options), state, what, extra=_AUXILIARY)

    def _entries(self) -> dict[str, Any]:
        """Published weights by name; going through an Enum leaves its aliases out."""
        return {entry.name: entry for entry in self._family()}

    def _family(self) -> Any:
        from torchvision import models

        return models.get_model_weights(self.name)

    def _resolve(self, weights: str) -> str:
        known = self.weights_names()
        if weights == "default":
            return known[0]
        family, _, name = weights.rpartition(".")
        own = self._family()
        if family in ("", own.__name__) and name in own.__members__:
            return str(own[name].name)
        if family.endswith("Weights") and family != own.__name__:
            raise WeightsUnavailableError(
                f"weights={shown(weights)} are those of another network: the weights of "
                f"{self.reference} are {own.__name__}, with {', '.join(known)}."
            )
        raise WeightsUnavailableError(
            f"weights={shown(repr(weights))}: torchvision has no such weights for {self.name}."
            f"{did_you_mean(weights, known)}It has {', '.join(known)}. Names of timm's weights "
            f'go with backbone="timm:{self.name}"; a file needs a name with .pth, .pt or '
            ".safetensors."
        )


def _image_size_of(state: State) -> dict[str, int]:
    """The image size that a vision transformer's position embeddings are for."""
    try:
        positions = state["encoder.pos_embedding"].shape[1] - 1  # without the class token
        return {"image_size": math.isqrt(positions) * state["conv_proj.weight"].shape[-1]}
    except (KeyError, IndexError):
        return {}  # the comparison of all names says what is wrong
