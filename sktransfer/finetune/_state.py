"""What a pickle of a fine-tuned estimator holds: what was learnt, not what was published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..codes import _state as codes_state

if TYPE_CHECKING:
    from ._base import FineTuneBase

__all__ = ["load_state", "save_state"]


def save_state(est: FineTuneBase, state: dict[str, Any]) -> dict[str, Any]:
    """Leave the net out; put what was learnt in, as arrays that load on any device."""
    state = codes_state.save_state(est, state)
    model = state.pop("_model", None)
    state.pop("net_", None)
    if "_fitted" in state:
        state["_model"] = None
        if model is not None:
            state["_learnt"] = model.learnt()
    return state


def load_state(state: dict[str, Any]) -> dict[str, Any]:
    """Undo `save_state`; the network is built when it is first needed."""
    return codes_state.load_state(state)
