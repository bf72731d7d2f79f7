"""The network and the net of a fitted estimator, built again where it was loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..codes._state import network_of
from ..engines import usable_devices
from ._model import Model, build_model
from ._training import make_net

if TYPE_CHECKING:
    from ._base import FineTuneBase

__all__ = ["model_of", "net_of"]


def model_of(est: FineTuneBase) -> Model:
    """The network of a fitted estimator; built again after it was loaded."""
    if est._model is None:
        model = build_model(network_of(est), est.image_size_, est._fitted.design)
        model.load(est._learnt)
        model.module.eval()
        est._model = model
    return est._model


def net_of(est: FineTuneBase) -> Any:
    """The net of a fitted estimator, with what it did; its optimizer begins anew."""
    model = model_of(est)
    device = torch.device(usable_devices(est.device)[0])
    model.module.to(device)
    net = make_net(est, model, device)
    model.module.eval()
    net.history = est.history_
    return net
