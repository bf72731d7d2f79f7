"""What a pickle of a fine-tuned estimator holds: what was learnt, not what was published."""

from __future__ import annotations

import copy
import hashlib
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..backbones import Backbone
from ..codes import _state as codes_state
from ..exceptions import shown
from ._parameters import plain_name

if TYPE_CHECKING:
    from ._base import FineTuneBase

__all__ = ["as_it_was_on_errors", "load_state", "save_state"]

Learnt = dict[str, np.ndarray]


# Parameters that may hold functions.
_WITH_FUNCTIONS = ("augment", "head", "optimizer", "schedule", "callbacks", "net_params")
# They copy functions that have no name to be found by.
_COPIERS = {"cloudpickle", "copy", "dill", "ray", "skops"}


def save_state(est: FineTuneBase, state: dict[str, Any]) -> dict[str, Any]:
    """Leave the net out; put what was learnt in, as arrays that load on any device."""
    _check_functions(est)
    state = dict(state)
    state.pop("net_", None)
    model = state.pop("_model", None)
    if "_fitted" in state:
        state["_model"] = None
        if state["_learnt"] is None:
            state["_learnt"] = model.learnt()
        if state["_network"] is None and est.bundle_weights:
            state["_network"] = est.backbone_.load()
        if isinstance(state["_network"], Backbone):
            state["_network"], state["_learnt"] = _merged(state["_network"], state["_learnt"])
    return codes_state.save_state(est, state)


def _check_functions(est: FineTuneBase) -> None:
    """Say which parameter it is that pickle cannot save, where it is pickle that saves."""
    held = {name: getattr(est, name, None) for name in _WITH_FUNCTIONS}
    held = {name: one for name, one in held.items() if not isinstance(one, (str, type(None)))}
    if not held or _is_copied():
        return
    for name, value in held.items():
        try:
            pickle.dumps(value)
        except Exception as error:
            raise pickle.PicklingError(
                f"{name}= cannot be pickled: {shown(error)}. Define its function or class in a "
                "module that can be imported, or save with cloudpickle."
            ) from error


def _is_copied() -> bool:
    frame = sys._getframe(1)
    while frame is not None:
        parts = str(frame.f_globals.get("__name__")).split(".")
        if parts[0] in _COPIERS or "cloudpickle" in parts:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _merged(backbone: Backbone, learnt: Learnt) -> tuple[Backbone, Learnt]:
    """What was learnt in the place of what it replaced, so that a pickle holds that once."""
    own = dict(backbone.module.state_dict())
    inside = {
        name: value
        for name, value in learnt.items()
        if name.startswith("tail.")
        and plain_name(name) in own
        and own[plain_name(name)].shape == value.shape
    }
    if not inside:
        return backbone, learnt
    digest = hashlib.sha256(backbone.fingerprint.encode())
    module = copy.deepcopy(backbone.module)
    own = module.state_dict()
    with torch.no_grad():
        for name, value in inside.items():
            own[plain_name(name)].copy_(torch.from_numpy(value))
            digest.update(name.encode() + value.tobytes())
    # It is another network now: tables and codes of the first are not its own.
    changed = replace(backbone, module=module, fingerprint=digest.hexdigest()[:32])
    return changed, {name: value for name, value in learnt.items() if name not in inside}


def load_state(state: dict[str, Any]) -> dict[str, Any]:
    """Undo `save_state`; the network is built when it is first needed."""
    return codes_state.load_state(state)


@contextmanager
def as_it_was_on_errors(est: FineTuneBase, *, go_on: bool) -> Iterator[None]:
    """Undo what a failing fit did to an estimator, also to weights that it went on with."""
    before = dict(vars(est))
    if go_on:
        learnt = before["_learnt"] or est._model.learnt()
        history = copy.deepcopy(est.history_)
    try:
        yield
    except BaseException:
        est.__dict__.clear()
        est.__dict__.update(before)
        if go_on:
            est.__dict__.pop("net_", None)
            est._model, est._learnt, est.history_ = None, learnt, history
        raise
