"""What a fitted estimator keeps of its network: what it was given, the network, and its pickle."""

from __future__ import annotations

import numbers
import os
import threading
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._lazy import loaded_torch
from ..exceptions import InputError, shown
from ..inputs import pack_settings, take_settings
from ._info import BackboneInfo
from ._spec import Backbone, as_preprocessing, weights_by_name

if TYPE_CHECKING:
    from ._bundle import Bundle

__all__ = [
    "NETWORK",
    "TEXT_NETWORK",
    "KeepsNetwork",
    "check_given",
    "given_of",
    "pack_state",
    "unpack_state",
]


# Parameters that decide what the network sees of an image, and which network it is.
NETWORK = (
    "backbone", "weights", "image_size", "resize", "crop_pct", "image_shape", "value_range",
    "preprocessing",
)  # fmt: skip

# The same of a text.
TEXT_NETWORK = (
    "backbone", "weights", "tokenizer", "max_tokens", "long_texts", "stride", "prompt",
)  # fmt: skip

Given = tuple[tuple[str, str], ...]

_unpacking = threading.Lock()


class KeepsNetwork:
    """A mixin of estimators with the parameters `backbone`, `weights` and `bundle_weights`.

    Attributes
    ----------
    backbone_ : BackboneInfo
        Which network it was fitted with.
    """

    backbone_: BackboneInfo
    # What decides what it computes, as it was in `fit`.
    _fitted: Any
    # None where name and weights suffice to load it again; packed as it came from a pickle.
    _network: Backbone | Bundle | None

    def warm_up(self) -> Self:
        """Load the network, make it ready for the device, and run it on one made-up item.

        What is done once in the first prediction of an estimator that was loaded is done now.
        Nothing is kept in the cache. See :func:`sktransfer.warm_up`, which takes pipelines as well.

        Returns
        -------
        self : object

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If it is not fitted.
        BackboneError
            If the network cannot be loaded.
        """
        check_is_fitted(self, "backbone_")
        self._run_once()
        return self

    @abstractmethod
    def _run_once(self) -> None:
        """Run the network on one made-up item, and keep nothing of it in the cache."""

    def _load_network(self) -> Backbone:
        """The network of the fit, from its pickle or by name."""
        if self._network is None:
            return self.backbone_.load()
        if not isinstance(self._network, Backbone):
            with _unpacking:  # threads that ask at the same time share one network
                if not isinstance(self._network, Backbone):
                    self._network = self._network.unpack()
        return self._network

    def __getstate__(self) -> dict[str, Any]:
        return pack_state(super().__getstate__())  # type: ignore[arg-type]

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(unpack_state(state))  # type: ignore[misc]


def pack_state(state: dict[str, Any]) -> dict[str, Any]:
    """Put plain values in the place of networks: a pickle holds no torch storages."""
    from ._bundle import Bundle, PackedModule
    from ._registry import Registration

    state = dict(state)
    if "_network" in state:
        held = state["_network"]
        if held is None and state["bundle_weights"]:
            held = state["backbone_"].load()
        state["_network"] = Bundle.pack(held) if isinstance(held, Backbone) else held
    state["weights"] = weights_by_name(state["weights"])
    if isinstance(state.get("backbone"), os.PathLike):
        state["backbone"] = os.fspath(state["backbone"])
    if not isinstance(state.get("backbone"), str):
        state["backbone"] = PackedModule.pack(state["backbone"])
    elif needed := Registration.of(state["backbone"], may_change="_fitted" not in state):
        state["_registrations"] = needed
    return pack_settings(state)


def unpack_state(state: dict[str, Any]) -> dict[str, Any]:
    """Undo `pack_state`; the network itself is built when it is first needed."""
    state = take_settings(state)
    state.pop("_registrations", None)  # they did their work when they were unpickled
    packed: Any = state.get("backbone")
    if hasattr(packed, "unpack"):  # a PackedModule
        state["backbone"] = packed.unpack()
    return state


def given_of(params: Any, names: Sequence[str]) -> Given:
    """The values of parameters as text that is the same after a pickle and in other words."""
    return tuple((name, _told(name, getattr(params, name))) for name in names)


def check_given(params: Any, given: Given, hint: str) -> None:
    """What continues has the parameters that its network was built with.

    Raises
    ------
    InputError
        If one is another now.
    """
    for name, before in given:
        value = getattr(params, name)
        now = _told(name, value)
        if now == before:
            continue
        if _is_module(value):  # its repr may be the same, and long
            before, now = before.partition(" ")[0], f"another {now.partition(' ')[0]}"
        raise InputError(
            f"Continuing needs {name}={shown(before)}, as in the first fit, got {shown(now)}. To "
            f"change it, call {hint}."
        )


def _is_module(value: Any) -> bool:
    torch = loaded_torch()
    return torch is not None and isinstance(value, torch.nn.Module)


def _told(name: str, value: Any) -> str:
    from .._content import content_of

    if _is_module(value):
        return f"{type(value).__name__} {content_of(dict(value.state_dict())).digest}"
    tokenizer = getattr(value, "backend_tokenizer", value)  # of transformers
    if hasattr(tokenizer, "to_str"):  # of the package tokenizers
        return f"{type(value).__name__} {content_of(tokenizer.to_str()).digest}"
    if name == "weights":
        value = weights_by_name(value)
    elif name == "preprocessing" and not isinstance(value, (str, type(None))):
        return repr(as_preprocessing(value))
    elif name == "image_size" and isinstance(value, numbers.Integral):
        value = (value, value)
    return repr(_plain(value))


def _plain(value: Any) -> Any:
    """A list is as good as a tuple, numpy's numbers as Python's, and paths as text."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return tuple(_plain(one) for one in value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if isinstance(value, np.generic) else value
