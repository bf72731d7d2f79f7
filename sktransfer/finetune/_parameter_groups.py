"""Which parameters are trained, and with which learning rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from torch import nn

from ..exceptions import LayerError, did_you_mean
from ..networks import Cuttable, Stage

__all__ = [
    "LayerState",
    "Rates",
    "home_name",
    "is_norm",
    "layer_states",
    "parameter_groups",
    "trainable_names",
]


@dataclass(frozen=True)
class LayerState:
    """How one stage of the network, or the head, was trained.

    Parameters
    ----------
    name : str
        Name of the stage; ``"head"`` is the new output layer.
    learns : bool
        Whether any of its parameters was trained.
    lr : float
        Its learning rate before the schedule; 0 where nothing was trained.
    n_parameters, n_trainable : int
        Numbers it holds, those of adapters too, and how many of them were trained.
    """

    name: str
    learns: bool
    lr: float
    n_parameters: int
    n_trainable: int


@dataclass(frozen=True)
class Rates:
    """Learning rates by depth.

    Attributes
    ----------
    lr : float
        Of the head.
    backbone_lr_factor : float
        By which that of the last stage is smaller.
    layer_decay : float
        By which each earlier stage's is smaller than that of the one after it.
    """

    lr: float
    backbone_lr_factor: float
    layer_decay: float

    def of(self, depth: int) -> float:
        """Learning rate of the stage so many before the last one; -1 is the head."""
        if depth < 0:
            return self.lr
        return self.lr * self.backbone_lr_factor * self.layer_decay**depth


def trainable_names(table: Cuttable, trainable: str | int | Iterable[str]) -> list[str]:
    """Names of the pretrained parameters that `trainable` asks for.

    Raises
    ------
    LayerError
        If a number or a name fits nothing; the message names the nearest.
    """
    stages = table.stages()
    owned = [table.parameters_of(stage) for stage in stages]
    every = [name for names in owned for name in names]
    if trainable == "all":
        return every
    if trainable == "head":
        return []
    if isinstance(trainable, bool):
        raise LayerError(f"trainable={trainable} must be a number of stages, or names.")
    if isinstance(trainable, (int, np.integer)):
        if not 0 <= trainable <= len(stages):
            raise LayerError(
                f"trainable={trainable} must be a number of stages from 0 to {len(stages)}: up to "
                f"the layer {table.layers[-1].name!r}, with which layer= ends the network, it has "
                f"{', '.join(stage.name for stage in stages)}."
            )
        return [name for names in owned[len(owned) - int(trainable) :] for name in names]
    patterns = [trainable] if isinstance(trainable, str) else list(trainable)
    last = table.layers[-1].name
    found = {name for pattern in patterns for name in _matching(pattern, every, last)}
    return [name for name in every if name in found]


def _matching(pattern: str, every: list[str], last: str) -> list[str]:
    if not isinstance(pattern, str):
        raise LayerError(f"trainable must name layers, got {pattern!r} among them.")
    if pattern == "head" or fnmatchcase("head", pattern):
        return [name for name in every if fnmatchcase(name, pattern)]
    found = [n for n in every if fnmatchcase(n, pattern) or n.startswith(pattern + ".")]
    if not found:
        modules = sorted({n.rsplit(".", i)[0] for n in every for i in (1, 2) if n.count(".") >= i})
        hint = did_you_mean(pattern, modules, cutoff=0.4)
        raise LayerError(
            f"trainable={pattern!r} matches no layer with weights up to {last!r}, with which "
            f'layer= ends the network. {hint}It may be "head", "all", a number of stages, or names '
            f"of layers such as {modules[-1]!r}, also with * and ?."
        )
    return found


def parameter_groups(
    module: nn.Module,
    stage_of: dict[str, int],
    stages: Sequence[str],
    rates: Rates,
    weight_decay: float,
) -> list[dict[str, Any]]:
    """Groups for any torch optimizer: one for each learning rate, with and without weight decay.

    Biases and the scales of norms, all that has one axis, are not decayed. A learning rate of zero
    freezes: such parameters are in no group.
    """
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in module.named_parameters():
        depth = _depth(name, stage_of, len(stages))
        lr = rates.of(depth)
        if not parameter.requires_grad or lr == 0:
            parameter.requires_grad_(False)
            continue
        decays = parameter.ndim > 1
        group = groups.setdefault(
            (depth, decays),
            {
                "params": [],
                "lr": lr,
                "weight_decay": weight_decay if decays else 0.0,
                "name": f"{'head' if depth < 0 else stages[-depth - 1]}"
                f"{'' if decays else ', not decayed'}",
            },
        )
        group["params"].append(parameter)
    if not groups:
        raise LayerError(
            "Nothing can be trained: head= has no parameters, and trainable= leaves none with a "
            "learning rate above 0."
        )
    return [groups[key] for key in sorted(groups)]


def _depth(name: str, stage_of: dict[str, int], n_stages: int) -> int:
    """How many stages before the last; -1 for what is new."""
    if not name.startswith("tail."):
        return -1
    home = home_name(name)
    return n_stages - 1 - stage_of[home] if home in stage_of else -1


def plain_name(name: str) -> str:
    """The name in the pretrained network; adapters wrap a layer and change it."""
    return name.removeprefix("tail.").replace(".base_layer", "")


def home_name(name: str) -> str:
    """The pretrained parameter that one is, or that an adapter adds to."""
    before, adapter, _ = plain_name(name).partition(".lora_")
    return f"{before}.weight" if adapter else before


def layer_states(
    module: nn.Module,
    names: list[list[str]],
    stages: Sequence[Stage],
    rates: Rates,
    whole: Mapping[str, nn.Parameter],
    begun: int | None = None,
) -> list[LayerState]:
    """What each stage and the head did; training has `begun` with so many of the last stages."""
    stage_of = {name: i for i, part in enumerate(names) for name in part}
    sizes = {name: value.numel() for name, value in whole.items()}
    trained, added = [0] * (len(stages) + 1), [0] * len(stages)
    for name, parameter in module.named_parameters():
        depth = _depth(name, stage_of, len(stages))
        if depth >= 0 and ".lora_" in name:
            added[len(stages) - 1 - depth] += parameter.numel()
        if parameter.requires_grad and (begun is None or depth < begun):
            trained[-1 if depth < 0 else len(stages) - 1 - depth] += parameter.numel()
    states = []
    for i, stage in enumerate(stages):
        lr = rates.of(len(stages) - 1 - i) if trained[i] else 0.0
        total = sum(sizes[name] for name in names[i]) + added[i]
        states.append(LayerState(stage.name, bool(trained[i]), lr, total, trained[i]))
    head = sum(p.numel() for n, p in module.named_parameters() if n.startswith("head."))
    return [*states, LayerState("head", bool(trained[-1]), rates.lr, head, trained[-1])]


def is_norm(module: nn.Module) -> bool:
    """Whether a module keeps running statistics."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm)
