"""Everything that a fit has in hand after an epoch, taken out of a net and put back."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback
from skorch.history import History

from ..exceptions import CheckpointError, shown
from ._checkpoints import Checkpoints, Follower
from ._network import attributes_of, put_back

__all__ = ["Checkpointing", "from_json", "restore", "state_of", "to_json", "watched_of"]


class Checkpointing(Callback):
    """Go on from a checkpoint, and write one after each epoch; the last of all callbacks.

    Parameters
    ----------
    saved : Checkpoints or Follower
    state : dict or None
        What to go on from.
    facts : dict
        More that is put into each.
    first : int
        Epochs of an earlier part of the fit, behind whose checkpoints these come.
    """

    def __init__(
        self,
        saved: Checkpoints | Follower,
        state: dict[str, Any] | None,
        facts: dict[str, Any],
        first: int = 0,
    ):
        self.saved, self.state, self.facts, self.first = saved, state, facts, first
        self.done = 0

    def on_train_begin(self, net: Any, **_: Any) -> None:
        # Taken here, since gradual unfreezing hides some names in the first epochs.
        self.names = learning_names(net.module_)
        if self.state is not None:
            restore(net, self.state, self.saved.source)
            self.done = self.state["done"]

    def on_epoch_end(self, net: Any, **_: Any) -> None:
        self.done += 1
        self.write(net)

    def write(self, net: Any, *, finished: bool = False) -> None:
        """Write the state as it is now."""
        state = {**self.facts, **state_of(net, self.names), "done": self.done}
        self.saved.save(state, self.first + len(net.history), finished=finished)


def learning_names(module: torch.nn.Module) -> list[str]:
    """What may change in training: weights that learn, the head, and statistics."""
    weights = dict(module.named_parameters())
    return [
        name
        for name in module.state_dict()
        if name not in weights or weights[name].requires_grad or name.startswith("head.")
    ]


def state_of(net: Any, names: list[str]) -> dict[str, Any]:
    """Weights, optimizer, callbacks, history and generators, as tensors and plain values."""
    weights = net.module_.state_dict()
    generator = _order(net)
    return {
        "weights": {name: weights[name] for name in names},
        "beside": {
            name: torch.from_numpy(value)
            for name, value in attributes_of(net.module_.head).items()
        },
        "optimizer": net.optimizer_.state_dict(),
        "scaler": net.scaler_.state_dict(),
        "callbacks": {name: _callback_state(one) for name, one in net.callbacks_},
        "history": to_json(net.history),
        "order": None if generator is None else generator.get_state(),
        "mixing": json.dumps(net.recipe.generator.bit_generator.state),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(net.device) if "cuda" in net.device else None,
    }


def restore(net: Any, state: dict[str, Any], source: Any) -> None:
    """Put a state back into a net that was made for the same fit.

    Raises
    ------
    CheckpointError
        If it does not fit the net.
    """
    try:
        _restore(net, state)
    except Exception as error:  # optimizers and callbacks of all kinds take their states back
        raise CheckpointError(
            f"The checkpoint {shown(source)} does not fit this fit: "
            f"{type(error).__name__}: {shown(error)}. Delete it to start from the beginning."
        ) from error


def _restore(net: Any, state: dict[str, Any]) -> None:
    _check_tensors(net.module_, state["weights"])
    net.module_.load_state_dict(state["weights"], strict=False)
    beside = state.get("beside", {})
    put_back(net.module_.head, {name: value.numpy() for name, value in beside.items()})
    net.optimizer_.load_state_dict(state["optimizer"])
    _check_moments(net.optimizer_)
    if state["scaler"] and net.scaler_.is_enabled():
        net.scaler_.load_state_dict(state["scaler"])
    for name, callback in net.callbacks_:
        _restore_callback(callback, state["callbacks"].get(name, {}))
    net.history_ = from_json(state["history"])
    generator = _order(net)
    if generator is not None:
        generator.set_state(state["order"])
    net.recipe.generator.bit_generator.state = json.loads(state["mixing"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and "cuda" in net.device:
        torch.cuda.set_rng_state(state["cuda"], net.device)


def _check_tensors(module: torch.nn.Module, weights: dict[str, Any]) -> None:
    """Exactly what may have changed in training, each of its shape and type."""
    own = module.state_dict()
    names = set(learning_names(module))
    if different := sorted(names ^ set(weights), key=str):
        raise ValueError(f"it must hold the tensor {different[0]!r} and no others")
    for name in names:
        value = weights[name]
        facts = [(tuple(one.shape), one.dtype) for one in (own[name], value)]
        if facts[0] != facts[1]:
            raise ValueError(f"{name!r} must be {facts[0]}, got {facts[1]}")


def _check_moments(optimizer: torch.optim.Optimizer) -> None:
    """AdamW and SGD keep means in the shapes of the weights; others what they like."""
    if type(optimizer) not in (torch.optim.AdamW, torch.optim.SGD):
        return
    for weight, moments in optimizer.state.items():
        for name, value in moments.items():
            if name != "step" and torch.is_tensor(value) and value.shape != weight.shape:
                raise ValueError(
                    f"{name!r} of the optimizer must be of the shape {tuple(weight.shape)}, got "
                    f"{tuple(value.shape)}"
                )


def _order(net: Any) -> Any:
    return net.get_params_for("iterator_train").get("generator")


def _callback_state(callback: Callback) -> dict[str, Any]:
    """What a callback keeps in attributes that begin or end with an underscore."""
    if hasattr(callback, "state_dict"):
        return {"state_dict": _plain(callback.state_dict())}
    state = {}
    for name, value in vars(callback).items():
        if not (name.startswith("_") or name.endswith("_")):
            continue
        if hasattr(value, "state_dict") and not isinstance(value, type):
            state[f"{name} state_dict"] = _plain(value.state_dict())
        elif _is_plain(value):
            state[name] = _plain(value)
    return state


def _restore_callback(callback: Callback, state: dict[str, Any]) -> None:
    device = None
    if "state_dict" in state:
        callback.load_state_dict(state["state_dict"])
        return
    for name, value in state.items():
        if name.endswith(" state_dict"):
            owner = getattr(callback, name.removesuffix(" state_dict"), None)
            if owner is not None:  # a finished fit has no scheduler in hand
                owner.load_state_dict(value)
            continue
        old = getattr(callback, name, None)
        if isinstance(old, dict):
            device = next((v.device for v in old.values() if torch.is_tensor(v)), None)
            value = {k: v.to(device) if torch.is_tensor(v) else v for k, v in value.items()}
        setattr(callback, name, value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(one) for pair in value.items() for one in pair)
    if isinstance(value, (list, tuple)):
        return all(_is_plain(one) for one in value)
    return value is None or isinstance(value, (bool, int, float, str, np.generic, torch.Tensor))


def _plain(value: Any) -> Any:
    """The same with numbers of numpy as Python's; what is neither becomes None."""
    if isinstance(value, Counter):
        return value
    if isinstance(value, dict):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(one) for one in value)
    if isinstance(value, np.generic):
        return value.item()
    return value if _is_plain(value) else None


def watched_of(saved: Checkpoints | Follower | None) -> dict[str, Any] | None:
    """What early stopping had found when all images were trained on; None before that.

    Raises
    ------
    CheckpointError
        If the checkpoint tells it wrongly.
    """
    state = None if saved is None else saved.state
    if saved is None or state is None or "watched" not in state:
        return None
    found = {name: state.get(name) for name in ("watched", "n_watched", "best_epoch")}
    try:
        n, best = len(from_json(str(found["watched"]))), found["best_epoch"]
        if found["n_watched"] != n or not (isinstance(best, int) and 0 <= best <= n):
            raise ValueError(f"epoch {best} of {found['n_watched']} cannot be the best of {n}")
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"The checkpoint {shown(saved.source)} does not fit this fit: {shown(error)}. Delete "
            "it to start from the beginning."
        ) from error
    return found


def to_json(history: History) -> str:
    """A history as text."""
    return json.dumps(list(history), default=_number)


def from_json(text: str) -> History:
    """The history that was made text of."""
    return History(json.loads(text))


def _number(value: Any) -> Any:
    """Numbers that callbacks record may be numpy's or tensors."""
    return value.item() if hasattr(value, "item") else repr(value)
