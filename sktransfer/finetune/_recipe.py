"""What one step of training does beyond the network, its loss and its optimizer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from ._distributed import Team
from ._parameters import plain_name

__all__ = ["Recipe", "weighted_mean"]


@dataclass
class Recipe:
    """Everything about a step that the skorch net does not know of itself.

    Attributes
    ----------
    groups : callable
        Gives the optimizer's parameter groups of a module.
    label_smoothing : float
        Share of the target that is spread over all classes, in [0, 1).
    mixup : float
        Both parameters of the Beta distribution of mixing; 0 mixes nothing.
    l2_sp : float
        Strength of the pull towards the pretrained weights.
    clip_grad : float or None
        Largest norm of the gradient of all parameters together.
    autocast : torch.dtype or None
        What the network computes in.
    generator : numpy.random.Generator
        Draws the mixing.
    team : Team or None
        The processes that share each batch.
    anchors : dict of str to Tensor
        Pretrained values of what learns, for `l2_sp`.

    References
    ----------
    H. Zhang et al. (2018). mixup: Beyond empirical risk minimization. ICLR.
    X. Li, Y. Grandvalet, F. Davoine (2018). Explicit inductive bias for transfer learning with
    convolutional networks. ICML. Section 3 (L2-SP).
    """

    groups: Any
    label_smoothing: float = 0.0
    mixup: float = 0.0
    l2_sp: float = 0.0
    clip_grad: float | None = None
    autocast: torch.dtype | None = None
    generator: np.random.Generator = field(default_factory=np.random.default_rng)
    team: Team | None = None
    anchors: dict[str, torch.Tensor] = field(default_factory=dict)

    def remember(self, module: nn.Module, pretrained: dict[str, torch.Tensor]) -> None:
        """Take the pretrained values of the weights that learn as those to be pulled towards."""
        if self.l2_sp:
            self.anchors = {
                name: pretrained[plain_name(name)].detach().clone().to(value.device)
                for name, value in module.named_parameters()
                if value.requires_grad
                and name.startswith("tail.")
                and plain_name(name) in pretrained
            }

    def pull(self, module: nn.Module) -> torch.Tensor | float:
        """Half the squared distance to the pretrained weights, times its strength."""
        if not self.anchors:
            return 0.0
        own = dict(module.named_parameters())
        squares = [((own[name] - value) ** 2).sum() for name, value in self.anchors.items()]
        return 0.5 * self.l2_sp * torch.stack(squares).sum()

    def mix(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, float]:
        """Blend each example of a batch with another one.

        Returns
        -------
        mixed : Tensor
        partners : Tensor or None
            Number of the other example of each.
        share : float
            How much of the example itself is left.
        """
        if not self.mixup:
            return x, None, 1.0
        share = float(self.generator.beta(self.mixup, self.mixup))
        partners = torch.from_numpy(self.generator.permutation(len(x)))
        mixed = share * x.float() + (1 - share) * x.float()[partners]
        return mixed, partners, share

    def classification(self, out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of each example."""
        return nn.functional.cross_entropy(
            out, target, reduction="none", label_smoothing=self.label_smoothing
        )

    def regression(self, out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Squared error of each example."""
        return ((out - target) ** 2).mean(1)


def weighted_mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The mean of some examples, such as their losses; 0 where nothing weighs anything."""
    return (values * weight).sum() / weight.sum().clamp(min=1e-12)
