"""Loss scaling: small gradients vanish in float16 unless the loss is made larger.

Reference: P. Micikevicius et al. (2018). Mixed precision training. ICLR. Section 3.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from skorch import NeuralNet
from torch.amp import GradScaler

__all__ = ["ScaledSteps"]

# Lower than torch's own: fits are short, and each step that overflows is lost.
_FIRST = 2.0**12
_Mixin: Any = NeuralNet if TYPE_CHECKING else object


class ScaledSteps(_Mixin):
    """A skorch net whose loss is scaled while it computes in float16, and only then.

    A step whose gradients overflow is left out and the scale halved; after 2,000 good steps it is
    doubled.

    Attributes
    ----------
    scaler_ : torch.amp.GradScaler
    """

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """Begin with a fresh scale."""
        half = self.recipe.autocast is torch.float16
        device = torch.device(self.device).type
        self.scaler_ = GradScaler(device, init_scale=_FIRST, enabled=half)
        return super().initialize_optimizer(*args, **kwargs)

    def _step_optimizer(self, step_fn: Any) -> None:
        if step_fn is None or not self.scaler_.is_enabled():
            super()._step_optimizer(step_fn)
            return
        step_fn()
        self.scaler_.step(self.optimizer_)
        self.scaler_.update()
