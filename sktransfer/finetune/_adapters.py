"""LoRA: small matrices beside frozen layers learn in their place.

Reference: E. Hu et al. (2022). LoRA: Low-rank adaptation of large language models. ICLR. Section 4.
"""

from __future__ import annotations

import torch
from torch import nn

from .._optional import import_optional
from ._network import FineTuneModule

__all__ = ["add_adapters"]

_RANK = 8


def add_adapters(module: FineTuneModule, learning: set[str], seed: int) -> None:
    """Put adapters of rank 8 beside the linear layers and convolutions that are to learn.

    Raises
    ------
    ImportError
        If the package peft is missing.
    """
    peft = import_optional("peft", 'method="lora"', "lora")
    targets = [
        name
        for name, layer in module.tail.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d))
        and f"{name}.weight" in learning
        and getattr(layer, "groups", 1) == 1
    ]
    if not targets:
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = peft.LoraConfig(r=_RANK, lora_alpha=2 * _RANK, target_modules=targets)
        module.tail = peft.inject_adapter_in_model(config, module.tail)
    for name, parameter in module.tail.named_parameters():
        parameter.requires_grad_("lora_" in name)
