"""Networks from constructors and state dicts, always in the same state."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..exceptions import WeightsMismatchError

__all__ = [
    "build_random",
    "build_structure",
    "check_finite",
    "describe_mismatch",
    "finish",
    "load_state",
    "seeded",
]

State = Mapping[str, torch.Tensor]
Builder = Callable[[], nn.Module]

_SEED = 0
_STATISTICS = ("running_mean", "running_var")
_ALIGNMENT = 64  # bytes, of torch's allocator on CPUs


@contextmanager
def seeded() -> Iterator[None]:
    """Draw the same random weights every time, and leave the caller's generator alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        yield


def build_random(builder: Builder) -> nn.Module:
    """A network with random weights, the same ones every time."""
    with seeded():
        return builder()


def build_structure(builder: Builder) -> nn.Module:
    """A network whose weights are all to be loaded: without memory and numbers if it can be.

    Drawing random weights only to overwrite them takes seconds for a VGG. It cannot be left
    out where a network computes something in its constructor that no state dict holds.
    """
    try:
        with seeded(), torch.device("meta"):
            module = builder()
    except (RuntimeError, NotImplementedError):  # the constructor reads a tensor's value
        return build_random(builder)
    return module if _holds_only_weights(module) else build_random(builder)


def _holds_only_weights(module: nn.Module) -> bool:
    loaded = module.state_dict().keys()
    tensors = [name for name, _ in module.named_parameters(remove_duplicate=False)]
    tensors += [name for name, _ in module.named_buffers(remove_duplicate=False)]
    return loaded >= set(tensors) and not any(map(_keeps_tensors, module.modules()))


def _keeps_tensors(module: nn.Module) -> bool:
    """Whether it has tensors where load_state_dict never looks: in attributes and lists."""
    for value in vars(module).values():
        several = value if isinstance(value, (list, tuple)) else (value,)
        if any(isinstance(one, torch.Tensor) for one in several):
            return True
    return False


def load_state(module: nn.Module, state: State, what: str) -> nn.Module:
    """Put weights into a network; every one must be there and fit.

    Parameters
    ----------
    module : torch.nn.Module
        It is changed and returned. Its tensors become those of `state`.
    state : mapping of str to Tensor
    what : str
        Whose weights these are, for the message.

    Raises
    ------
    WeightsMismatchError
        If names or shapes do not fit.
    """
    problems = describe_mismatch(module, state)
    try:
        if "floating-point" in problems:  # torch would take them as they are
            raise ValueError(problems)
        module.load_state_dict(_with_versions(state, module), strict=True, assign=True)
    except (RuntimeError, ValueError, KeyError) as error:
        raise WeightsMismatchError(
            f"{what}: {problems or error}. The weights must be those of this very network; "
            "see list_backbones() for other names."
        ) from error
    return module


def _with_versions(state: State, module: nn.Module) -> State:
    """Files that are no pickles do not tell of which version the layers are.

    Counters of batch normalisation came late, so where they are the version is the current
    one; MNASNet insists on having it said.
    """
    if hasattr(state, "_metadata") or not any(k.endswith("num_batches_tracked") for k in state):
        return state
    versioned: Any = OrderedDict(state)
    versioned._metadata = getattr(module.state_dict(), "_metadata", None)
    return versioned


def check_finite(module: nn.Module, what: str) -> None:
    """Refuse weights that are no numbers, which would make every code one that is none.

    Parameters
    ----------
    module : torch.nn.Module
        On the CPU.
    what : str
        Whose weights these are, for the message.

    Raises
    ------
    WeightsMismatchError
        If a weight is NaN or infinite, or a buffer NaN.
    """
    buffers = {name for name, _ in module.named_buffers()}
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        # A sum is finite only if all are, and costs a third of looking at each.
        if not tensor.is_floating_point() or bool(torch.isfinite(tensor.detach().sum())):
            continue
        # Infinite buffers are masks, limits or the best so far, but for what norms count.
        may_be_infinite = name in buffers and name.rpartition(".")[2] not in _STATISTICS
        wrong = torch.isnan(tensor) if may_be_infinite else ~torch.isfinite(tensor.detach())
        if not wrong.any():
            continue
        kind = "NaN" if bool(torch.isnan(tensor.detach()).any()) else "infinite numbers"
        raise WeightsMismatchError(
            f"{what}: {name} holds {kind} ({int(wrong.sum())} of {tensor.numel()} values). "
            "Training may have diverged; take weights of an earlier epoch, or download the file "
            "again."
        )


def describe_mismatch(module: nn.Module, state: State) -> str:
    """Which names and shapes do not fit, the first few of each; empty if all do."""
    wanted = module.state_dict()
    missing = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    unknown = [k for k in state if k not in wanted]
    both = [
        (k, state[k], wanted[k])
        for k in wanted
        if k in state and isinstance(wanted[k], torch.Tensor)  # no get_extra_state
    ]
    shapes = [
        f"{k} {tuple(given.shape)} instead of {tuple(own.shape)}"
        for k, given, own in both
        if given.shape != own.shape
    ]
    # Whole numbers are weights of a quantised network, without the scales that belong to them.
    types = [
        f"{k} {str(given.dtype).removeprefix('torch.')}"
        for k, given, own in both
        if own.is_floating_point() and not given.is_floating_point()
    ]
    total = len(wanted)
    parts = [
        f"{len(names)} {label} ({_first(names)})"
        for names, label in (
            (missing, f"of {total} weights are missing"),
            (unknown, "are unknown to the network"),
            (shapes, "have another shape"),
            (types, "are not floating-point numbers"),
        )
        if names
    ]
    return "; ".join(parts)


def _first(names: list[str], n: int = 3) -> str:
    return ", ".join(names[:n]) + (", …" if len(names) > n else "")


def finish(module: nn.Module) -> nn.Module:
    """Bring a network into the state that every backbone is in.

    Eval mode, float32 on the CPU, no gradients. Weights lie in memory as if torch had made
    them, wherever they were read from: another order or alignment gives other last digits.
    """
    module = module.eval().to(device="cpu", dtype=torch.float32).requires_grad_(False)
    for tensor in (*module.parameters(), *module.buffers()):
        # is_contiguous() does not tell orders apart that differ in axes of length 1 only.
        usual = torch.empty(tensor.shape, device="meta").stride()
        if tensor.stride() != usual or tensor.data_ptr() % _ALIGNMENT:
            tensor.data = torch.empty_strided(tensor.shape, usual, dtype=tensor.dtype).copy_(tensor)
        tensor.grad = None
    return module
