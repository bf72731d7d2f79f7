"""The network that learns: tail, pooling and a new head."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from .._content import content_of
from ..backbones import Backbone
from ..backbones._layers import Layer, LayerTable
from ..backbones._pooling import Pool, pooled_shape
from ..backbones._tail import tail_of
from ..exceptions import LayerError, shown
from ._gradients import Dropout
from ._parameters import is_norm
from ._precision import spare_grouped

__all__ = [
    "FineTuneModule", "Scale", "attributes_of", "build_module", "has_hooks", "make_head",
    "put_back", "told_of",
]  # fmt: skip

_HIDDEN = 512


class FineTuneModule(nn.Module):
    """What learns of a network, behind what is frozen.

    Parameters
    ----------
    tail : torch.nn.Module
        From the cut to the layer before the classifier.
    pool : torch.nn.Module
        From the output of that layer to a row.
    head : torch.nn.Module
        From a row to the outputs.
    normalization : tuple of (mean, std) or None
        Given where the tail begins at the pixels, which are then bytes (n, h, w, c).
    live_norms : bool
        Whether batch norms that learn also follow the statistics of the batches.

    Notes
    -----
    What does not learn stays in eval mode whatever calls ``train()``: frozen weights with
    drifting statistics are not frozen.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(
        self,
        tail: nn.Module,
        pool: nn.Module,
        head: nn.Module,
        normalization: tuple[Sequence[float], Sequence[float]] | None,
        *,
        live_norms: bool,
    ):
        super().__init__()
        self.tail, self.pool, self.head, self.live_norms = tail, pool, head, live_norms
        self.from_pixels = normalization is not None
        mean, std = normalization or ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        scale, shift = (1 / (255 * torch.tensor(std))), (-torch.tensor(mean) / torch.tensor(std))
        self.register_buffer("scale", scale.view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(1, -1, 1, 1), persistent=False)

    def codes(self, activations: torch.Tensor) -> torch.Tensor:
        """Rows before the head."""
        x = activations
        if self.from_pixels:
            x = x.permute(0, 3, 1, 2).float() * self.scale + self.shift
        elif x.ndim == 4:
            x = x.float().contiguous(memory_format=torch.channels_last)
        else:
            x = x.float()
        return self.pool(self.tail(x))

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        return self.head(self.codes(activations))

    def train(self, mode: bool = True) -> FineTuneModule:
        super().train(False)
        self.training = mode
        self.head.train(mode)
        if mode and self.live_norms:
            for module in self.tail.modules():
                if is_norm(module) and any(p.requires_grad for p in module.parameters()):
                    module.training = True
        return self


def build_module(
    backbone: Backbone,
    table: LayerTable,
    start: Layer | None,
    head: nn.Module,
    *,
    live_norms: bool = False,
) -> tuple[FineTuneModule, Layer | None]:
    """Build the module behind a cut point, or behind an earlier one where it cannot be cut.

    Returns
    -------
    module : FineTuneModule
        On the CPU; nothing of it learns yet but the head. It shares no weights with `backbone`.
    start : Layer or None
        Where it begins.
    """
    before = [None, *table.layers]
    candidates = before[: before.index(start) + 1] if start is not None else [None]
    for candidate in reversed(candidates):
        try:
            tail: nn.Module = _tail(table, candidate)
        except LayerError:
            if candidate is None:
                raise
            continue
        code = table.layers[-1]
        facts = backbone.preprocessing
        normalization = None if candidate is not None else (facts.mean, facts.std)
        pool = Pool("avg", code) if candidate is not code else nn.Identity()
        tail.requires_grad_(False)
        _channels_last(tail)
        spare_grouped(tail)
        module = FineTuneModule(tail, pool, head, normalization, live_norms=live_norms)
        return module, candidate
    raise AssertionError("unreachable")  # pragma: no cover


def _tail(table: LayerTable, start: Layer | None) -> nn.Module:
    # The codes themselves are pooled where they are made, as CNNCodes has them.
    return nn.Identity() if start is table.layers[-1] else tail_of(table, start)


def _channels_last(module: nn.Module) -> None:
    for weight in module.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)


def code_width(table: LayerTable) -> int:
    """Numbers that go into the head."""
    return pooled_shape(table.layers[-1], "avg")[0]


def make_head(
    head: str | Callable[[int, int], nn.Module], width: int, n_outputs: int, dropout: float
) -> nn.Module:
    """A new output layer.

    Parameters
    ----------
    head : {"linear", "mlp"} or callable
        A callable takes the numbers of inputs and outputs and gives a module.
    width, n_outputs : int
    dropout : float
        Share of its inputs that are left out in training.

    Raises
    ------
    ValueError
        If a callable gives no module, or one that does not turn codes into outputs.
    """
    if not isinstance(head, str):
        return _own_head(head, width, n_outputs)
    last = nn.Linear(width if head == "linear" else _HIDDEN, n_outputs)
    if head == "linear":
        return nn.Sequential(Scale(width**-0.5), Dropout(dropout), last)
    hidden = nn.Linear(width, _HIDDEN)
    return nn.Sequential(Dropout(dropout), hidden, nn.ReLU(), Dropout(dropout), last)


def _own_head(head: Any, width: int, n_outputs: int) -> nn.Module:
    """What a function gave, if it turns codes into outputs; its own copy."""
    call = "head=lambda n_inputs, n_outputs: torch.nn.Linear(n_inputs, n_outputs)"
    if isinstance(head, nn.Module) or not callable(head):
        raise ValueError(
            "head= must be 'linear', 'mlp' or a function that takes the numbers of inputs and "
            f"outputs and gives a module, got {shown(repr(head))}. Pass a function: {call}."
        )
    try:
        made: Any = head(width, n_outputs)
    except Exception as error:
        raise ValueError(
            f"head= failed with n_inputs={width} and n_outputs={n_outputs}: "
            f"{type(error).__name__}: {shown(error)}. It must take these two, such as {call}."
        ) from error
    if not isinstance(made, nn.Module):
        raise ValueError(f"head= must give a torch.nn.Module, gave {shown(repr(made))}.")
    made = _own(made, lambda: head(width, n_outputs))
    try:
        with torch.no_grad():
            out = made.eval()(torch.zeros(2, width))
    except Exception as error:
        raise ValueError(
            f"head= must give a module that takes codes of shape (n, {width}), but it failed: "
            f"{type(error).__name__}: {shown(error)}."
        ) from error
    if not isinstance(out, torch.Tensor) or out.shape != (2, n_outputs):
        gave = f"shape {tuple(out.shape)}" if isinstance(out, torch.Tensor) else type(out).__name__
        raise ValueError(
            f"head= must give a module with n_outputs={n_outputs} numbers for each image, but its "
            f"module gave {gave} for 2 images. Use the second argument: {call}."
        )
    for module in made.modules():
        if type(module) is nn.Dropout:  # whose draws threads would mix up
            module.__class__ = Dropout
    return made


def _own(made: nn.Module, again: Callable[[], Any]) -> nn.Module:
    """A copy on the CPU: a module that is given twice would be trained by two fits."""
    try:
        return copy.deepcopy(made).cpu()
    except Exception as error:
        try:  # what cannot be copied may be made anew each time
            if not _shared(made, again()):
                return made.cpu()
        except Exception:
            pass
        raise ValueError(
            "head= must make a new module at each call, or one that can be copied, with weights "
            f"on a real device, but it failed: {type(error).__name__}: {shown(error)}."
        ) from error


def _shared(one: nn.Module, other: nn.Module) -> bool:
    own = {id(part) for part in (*one.modules(), *one.parameters(), *one.buffers())}
    return any(id(part) in own for part in (*other.modules(), *other.parameters()))


def has_hooks(module: nn.Module) -> bool:
    """Whether a module does more than its class does, such as weight_norm's."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def attributes_of(head: nn.Module) -> dict[str, np.ndarray]:
    """Tensors, arrays and numbers that a head holds beside its state_dict."""
    kept = {}
    for name, value, is_own in _attributes(head):
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu()
            kept[name] = (value.float() if value.dtype == torch.bfloat16 else value).numpy().copy()
        elif _is_array(value) or (is_own and isinstance(value, (bool, int, float))):
            kept[name] = np.array(value)
    return kept


def put_back(head: nn.Module, kept: dict[str, np.ndarray]) -> None:
    """Give a head that was built anew what `attributes_of` found."""
    for name, old, _ in list(_attributes(head)):
        if name not in kept:
            continue
        new: Any = np.array(kept[name])
        if new.dtype.kind == "U":  # a hash, of `told_of`
            continue
        if isinstance(old, torch.Tensor):
            new = torch.from_numpy(new).to(old.device, old.dtype)
        elif isinstance(old, (bool, int, float)):
            new = type(old)(new.item())
        owner, _, attribute = name.rpartition(".")
        setattr(head.get_submodule(owner), attribute, new)


def told_of(head: nn.Module) -> dict[str, str]:
    """Hashes of lists and dicts that a head holds, which are made anew with it."""
    told = {}
    for name, value, is_own in _attributes(head):
        if is_own and isinstance(value, (list, tuple, dict, set)) and _is_data(value):
            told[name] = content_of(value).digest or ""
    return told


def _attributes(head: nn.Module) -> Iterator[tuple[str, Any, bool]]:
    """Name, value and whether a class of the user's has it."""
    of_all = vars(nn.Module())
    for path, module in head.named_modules():
        is_own = type(module).__module__.partition(".")[0] not in ("torch", "sktransfer")
        # What weight_norm and its like compute from the weights before each pass.
        computed = {getattr(one, "name", None) for one in module._forward_pre_hooks.values()}
        for name, value in vars(module).items():
            if name not in of_all and name not in computed:
                yield f"{path}.{name}".lstrip("."), value, is_own
        for name in module._non_persistent_buffers_set:
            yield f"{path}.{name}".lstrip("."), module._buffers[name], is_own


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "biuf"


def _is_data(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_data(one) for pair in value.items() for one in pair)
    if isinstance(value, (list, tuple, set)):
        return all(map(_is_data, value))
    return isinstance(value, (type(None), bool, int, float, str, torch.Tensor)) or _is_array(value)


class Scale(nn.Module):
    """Multiply by a fixed number.

    Adam moves every weight by about the learning rate in each step, so the outputs of a linear
    layer move with the number of its inputs: for 1,280 codes and a rate of 1e-3 by half a
    logit, which would undo a fitted head. Divided by the root of their number, a rate means
    the same for every width.

    Parameters
    ----------
    by : float
    """

    def __init__(self, by: float):
        super().__init__()
        self.by = by

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.by
