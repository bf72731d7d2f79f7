"""What a pickle of the transformer holds, and the network it stands for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from ..backbones import Backbone
from ..backbones._bundle import Bundle, PackedModule
from ..backbones._load import weights_by_name
from ..backbones._registered import Registration
from ..images import pack_settings, take_settings

if TYPE_CHECKING:
    from ._estimator import CNNCodes

__all__ = ["load_state", "network_of", "save_state"]

_unpacking = threading.Lock()


def network_of(codes: CNNCodes) -> Backbone:
    """The network of a fitted transformer, from its pickle or by name."""
    held = codes._network
    if isinstance(held, Bundle):
        with _unpacking:  # threads that ask at the same time share one network
            held = codes._network
            if isinstance(held, Bundle):
                held = codes._network = held.unpack()
    return codes.backbone_.load() if held is None else held


def save_state(codes: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Put plain values in the place of networks: a pickle holds no torch storages."""
    state = dict(state)
    if "_network" in state:
        held = state["_network"]
        if held is None and codes.bundle_weights:
            held = codes.backbone_.load()
        state["_network"] = Bundle.pack(held) if isinstance(held, Backbone) else held
    state["weights"] = weights_by_name(state["weights"])
    if not isinstance(state.get("backbone"), str):
        state["backbone"] = PackedModule.pack(state["backbone"])
    elif needed := Registration.of(state["backbone"], may_change="_fitted" not in state):
        state["_registrations"] = needed
    return pack_settings(state)


def load_state(state: dict[str, Any]) -> dict[str, Any]:
    """Undo `save_state`; the network itself is built when it is first needed."""
    state = take_settings(state)
    state.pop("_registrations", None)  # they did their work when they were unpickled
    if isinstance(state.get("backbone"), PackedModule):
        state["backbone"] = state["backbone"].unpack()
    return state
