"""Networks from constructors and state dicts, always in the same state."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import warnings
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .._files import open_regular
from ..exceptions import (
    BackboneWarning,
    WeightsMismatchError,
    WeightsUnavailableError,
    shown,
)
from ._fingerprint import fingerprint
from ._spec import Preprocessing

__all__ = [
    "SUFFIXES",
    "Architecture",
    "Pretrained",
    "build_random",
    "build_structure",
    "check_finite",
    "describe_mismatch",
    "find_weights",
    "finish",
    "load_any_head",
    "load_state",
    "n_classes",
    "named",
    "read_file",
    "read_state",
    "seeded",
    "sha256_of",
    "state_of",
    "without_further_heads",
    "without_head",
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


# Weights out of a file, without running any code that the file may hold.


SUFFIXES = (".pth", ".pt", ".safetensors", ".bin", ".ckpt", ".tar")

# What training scripts call the weights, in dictionaries around them and before their names.
# Where a file holds a network several times, the first of these is taken: averaged weights are
# the better ones.
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "module_ema", "ema",
             "teacher")  # fmt: skip
_PLAIN = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights",
          "params", "encoder_q", "student", "backbone", "encoder", "_orig_mod")  # fmt: skip
_WORDS = (*_AVERAGED, "", *_PLAIN)
# Copies that follow the network which is trained, for a loss.
_FOLLOWERS = ("encoder_k", "key_encoder", "momentum_encoder", "target_encoder", "target_network")

_INSIDE = "\x1f"  # in names, between a dictionary and what it holds
_DEEPEST = 8


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Read the weights in a ``.pth``, ``.pt`` or ``.safetensors`` file.

    Raises
    ------
    WeightsUnavailableError
        If there is no such file or it cannot be opened.
    WeightsMismatchError
        If it is empty, damaged, holds no weights, or could be read only by running code.
    """
    return state_of(read_file(path), path)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, which must be there and not empty."""
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _opened(path: Path) -> BufferedReader:
    try:
        file = open_regular(path)
    except OSError as error:
        raise WeightsUnavailableError(
            f"weights={shown(repr(str(path)))}: the file cannot be read "
            f"({error.strerror or error}). Check the path; a relative one starts at the current "
            "directory."
        ) from error
    if not os.fstat(file.fileno()).st_size:
        file.close()
        raise WeightsMismatchError(f"{shown(path)} is empty. Download or save the file again.")
    return file


def read_file(path: Path) -> Any:
    """Whatever a file of weights holds."""
    _opened(path).close()
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(path, str(error)) from error
    except MemoryError:
        raise
    except Exception as error:  # damaged files fail in every way there is
        if "TorchScript" in str(error):
            raise _refusal(path, "TorchScript") from error
        raise _damage(path, error) from error


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except MemoryError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise _damage(path, error) from error


def _damage(path: Path, error: Exception) -> WeightsMismatchError:
    reason = str(error).split("\n")[0][:150] or type(error).__name__
    return WeightsMismatchError(
        f"{shown(path)} is not a whole file of weights ({path.stat().st_size} bytes): {reason}. It "
        "may be truncated or be another kind of file. Download or save it again."
    )


def _refusal(path: Path, reason: str) -> WeightsMismatchError:
    named = re.search(r"GLOBAL ([\w.]+)", reason)
    if named is None and "TorchScript" not in reason:
        return _damage(path, pickle.UnpicklingError("it cannot be unpickled"))
    what = f"objects of {named[1]}" if named else "a TorchScript program"
    return WeightsMismatchError(
        f"{shown(path)} is refused: beside weights it holds {what}, and reading those could run "
        "any code. If you trust it, read it with torch yourself and save the weights alone: "
        "torch.save(model.state_dict(), ...), or safetensors.torch.save_file()."
    )


def state_of(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """All weights in what a training script saved; `find_weights` takes a network's out of them.

    Raises
    ------
    WeightsMismatchError
        If there are none, or some that no network computes with.
    """
    found: Any = OrderedDict(_tensors_in(content))
    if not found:
        raise WeightsMismatchError(
            f"{shown(path)} holds no weights but {_described(content)}. Save model.state_dict()."
        )
    for name, tensor in found.items():
        if kind := _kind_of(tensor):
            raise WeightsMismatchError(
                f"{shown(path)} holds {kind} numbers in {_plain(name)}; weights must be dense "
                "tensors of real numbers. Save model.state_dict() of the plain network."
            )
    if hasattr(content, "_metadata"):
        found._metadata = content._metadata
    return found


def _tensors_in(content: Any, before: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    # An optimizer keeps tensors as large as the weights, which are none.
    if not isinstance(content, Mapping) or "param_groups" in content or depth > _DEEPEST:
        return
    for key, value in content.items():
        if isinstance(value, torch.Tensor) and isinstance(key, str):
            yield before + key, value
        else:
            yield from _tensors_in(value, f"{before}{key}{_INSIDE}", depth + 1)


def _described(content: Any) -> str:
    if isinstance(content, torch.Tensor):
        return f"a single tensor of shape {tuple(content.shape)}"
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    optimizers = [one for one in (content, *content.values()) if _is_optimizer(one)]
    if optimizers:
        return "the state of an optimizer"
    if not content:
        return "an empty dict"
    return f"a dict with {', '.join(shown(one, 40) for one in list(content)[:5])}"


def _is_optimizer(content: Any) -> bool:
    return isinstance(content, Mapping) and "param_groups" in content


def _kind_of(tensor: torch.Tensor) -> str | None:
    if tensor.is_quantized:
        return "quantised"
    if tensor.layout != torch.strided or tensor.is_nested:
        return "sparse or nested"
    if tensor.is_complex():
        return "complex"
    return "no" if tensor.is_meta else None


def find_weights(
    state: State, wanted: Mapping[str, torch.Tensor], what: str, heads: Collection[str] = ()
) -> tuple[dict[str, torch.Tensor], str]:
    """The weights of a network among those of a file, which has them under longer names.

    Training scripts put the network into others, and its weights into dictionaries: what is
    ``conv1.weight`` for the network is ``state_dict``, ``model.encoder.conv1.weight`` in the file.

    Parameters
    ----------
    state : mapping of str to Tensor
        As `state_of` gives them.
    wanted : mapping of str to Tensor
        The network's own names, with tensors of the right shapes.
    what : str
        Whose weights these are, for the message.
    heads : collection of str
        Those of its classifier, which may be missing or replaced.

    Returns
    -------
    weights : dict of str to Tensor
        The part of `state` that fits best, under the network's names.
    prefix : str
        What stood before them.

    Raises
    ------
    WeightsMismatchError
        If the network is there more than once and nothing tells which is meant.
    """
    trunk = {k for k in wanted if k not in heads and not k.endswith("num_batches_tracked")}
    fitting = Counter(prefix for name in state for prefix, own in _cuts(name) if own in trunk)
    most = max(fitting.values(), default=0)
    if 2 * most <= len(trunk):  # another network, or the same under its authors' names
        return _without(state, prefix := _usual_prefix(state)), _plain(prefix)
    places = tuple(name.rpartition(".")[0] + "." for name in heads)
    found = [prefix for prefix, n in fitting.items() if n == most]
    parts = {one: _without(state, one, *(o for o in found if o != one)) for one in found}

    def misfits(prefix: str) -> int:
        """Weights of a larger network that has all names of this one."""
        own = parts[prefix]
        shapes = sum(own[k].shape != wanted[k].shape for k in trunk & own.keys())
        return shapes + sum(k not in wanted and not k.startswith(places) for k in own)

    least = min(map(misfits, found))
    first, *others = sorted((one for one in found if misfits(one) == least), key=_rank)
    for other in others:
        if _rank(other) == _rank(first) and not _same(parts[first], parts[other]):
            raise WeightsMismatchError(
                f"{what}: it holds weights of this network twice, under {_plain(first)!r} and "
                f"under {_plain(other)!r}. Save those that are wanted alone."
            )
    return parts[first], _plain(first)


def _cuts(name: str) -> Iterator[tuple[str, str]]:
    """Every way to take a name for a prefix and a name."""
    yield "", name
    for dot in re.finditer(rf"[.{_INSIDE}]", name):
        yield name[: dot.end()], name[dot.end() :]


def _without(state: State, prefix: str, *others: str) -> dict[str, torch.Tensor]:
    """What has a prefix, without it, and without what is in dictionaries or networks within."""
    inner = tuple(one for one in others if one.startswith(prefix))
    own = ((k, v) for k, v in state.items() if k.startswith(prefix) and not k.startswith(inner))
    bare: Any = OrderedDict((k.removeprefix(prefix), v) for k, v in own)
    for name in [k for k in bare if _INSIDE in k]:
        del bare[name]
    if not prefix and hasattr(state, "_metadata"):
        bare._metadata = state._metadata
    return bare


def _usual_prefix(state: State) -> str:
    """The dictionary that weights of other names are usually in, and the wrappers they share."""
    prefix = min({k[: k.rfind(_INSIDE) + 1] for k in state}, key=_rank)
    names = list(_without(state, prefix))
    while word := next((w for w in _WORDS if w and all(n.startswith(f"{w}.") for n in names)), ""):
        prefix += f"{word}."
        names = [name.removeprefix(f"{word}.") for name in names]
    return prefix


def _rank(prefix: str) -> tuple[bool, list[int], bool]:
    """Smaller for the place to be taken first; the same where nothing tells."""
    words = _plain(prefix).split(".")[:-1] or [""]
    known = sorted(_WORDS.index(one) for one in words if one in _WORDS)
    follows = any(one in _FOLLOWERS for one in words)
    return follows, known or [len(_WORDS)], len(known) < len(words)


def _same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())


def _plain(name: str) -> str:
    return name.replace(_INSIDE, ".")


# What every source of networks can tell and do.


@dataclass(frozen=True)
class Pretrained:
    """A network with published weights."""

    module: nn.Module
    weights: str
    preprocessing: Preprocessing


class Architecture(ABC):
    """A network by name, before any weights are chosen.

    Attributes
    ----------
    source, name, reference : str
        As in `Backbone`.
    identity : str
        What the fingerprint starts from: the same for everything that computes the same.
    portable : bool
        Whether its published weights can be loaded anywhere by their name.
    token : str
        Tells builders apart that one name was given to, one after the other.
    """

    source: str
    name: str
    reference: str
    identity: str
    portable = True
    token = ""

    def fingerprint_of(self, module: nn.Module) -> str:
        """The fingerprint of a network that was built."""
        return fingerprint(self.identity, module)

    def describe(self) -> dict[str, Any] | None:
        """Plain values from which it can be loaded again anywhere; None if there are none."""
        return {"reference": self.reference}

    @abstractmethod
    def build(self, num_classes: int | None = None) -> nn.Module:
        """The network with random weights; None is the usual number of classes."""

    @abstractmethod
    def weights_names(self) -> list[str]:
        """Names of published weights, the default first."""

    def default_of(self, weights: str) -> str:
        """What "default", in any mixture of large and small letters, means for this network."""
        return "default"

    @abstractmethod
    def pretrained(self, weights: str) -> Pretrained:
        """The network with published weights; "default" is their default."""

    @abstractmethod
    def default_preprocessing(self) -> Preprocessing:
        """That of the default weights."""

    def published(self, path: Path, sha256: str) -> tuple[str, Preprocessing] | None:
        """Name and preprocessing of published weights that a file holds, if it does."""
        return None

    def random(self) -> nn.Module:
        """The network with random weights, the same ones every time."""
        return build_random(self.build)

    def structure(self) -> nn.Module:
        """The network without memory for its weights, where it can be built so."""
        return build_structure(self.build)

    def from_state(self, state: State, what: str) -> nn.Module:
        """The network with weights from a file."""
        return load_any_head(self.build, state, what)


def head_weights(build: Callable[[int], nn.Module]) -> set[str]:
    """Names of the weights whose shape depends on the number of classes."""
    two = build_structure(partial(build, 2)).state_dict()
    three = build_structure(partial(build, 3)).state_dict()
    return {name for name in two if two[name].shape != three[name].shape}


def n_classes(state: State, heads: set[str]) -> int | None:
    """The number of classes of weights; None if they have no classifier."""
    sizes = {state[name].shape[0] for name in heads if name in state and state[name].ndim}
    # Where two classifiers do not agree, the comparison of shapes will say so.
    return max(sizes, default=None)


def load_any_head(
    build: Callable[[int], nn.Module],
    state: State,
    what: str,
    heads: set[str] | None = None,
    *,
    extra: tuple[str, ...] = (),
) -> nn.Module:
    """Load weights whose classifier has any number of classes or is missing.

    The classifier is cut off for codes, so nothing is lost.

    Parameters
    ----------
    build : callable
        From a number of classes to the network.
    state : mapping of str to Tensor
    what : str
        Whose weights these are, for messages.
    heads : set of str, default=None
        Names of the classifier's weights; None finds them out.
    extra : tuple of str
        How names begin of weights that such files may hold beside, for training alone.
    """
    heads = head_weights(build) if heads is None else heads
    n = n_classes(state, heads)
    module = build_structure(partial(build, n or 1))
    if n is None or describe_mismatch(module, state):
        state, prefix = find_weights(state, module.state_dict(), what, heads)
        state = {name: tensor for name, tensor in state.items() if not name.startswith(extra)}
        what, n = named(what, prefix), n_classes(state, heads)
        module = build_structure(partial(build, n or 1))
    if n is None:
        shapes = module.state_dict()
        zeros = {name: torch.zeros(shapes[name].shape) for name in heads}
        state = {**without_head(state, heads), **zeros}
    return load_state(module, without_further_heads(module, state, what, heads), what)


def without_head(state: State, heads: Iterable[str]) -> State:
    """Weights without those of whatever was put in the place of the classifier."""
    places = tuple(name.rpartition(".")[0] + "." for name in heads)
    return {name: tensor for name, tensor in state.items() if not name.startswith(places)}


def without_further_heads(
    module: nn.Module, state: State, what: str, heads: Collection[str] = ()
) -> State:
    """Weights without the heads that training put beside a network, such as projections.

    Parts are taken for such where the network is there whole, has nothing of their name, and they
    follow it in the file; a warning names them. Else nothing is left out, and the comparison of
    names says what does not fit.

    Parameters
    ----------
    module : torch.nn.Module
    state : mapping of str to Tensor
    what : str
        Whose weights these are, for the warning.
    heads : collection of str
        Names of the network's own classifier, which may stand anywhere.
    """
    wanted, names = module.state_dict(), list(state)
    strange = [name for name in names if name not in wanted]
    trunk = [name for name in names if name in wanted and name not in heads]
    parts = dict.fromkeys(name.partition(".")[0] for name in strange)
    # Single tensors are inputs of a trunk, such as tokens; what is None here was left out of it.
    inside = any("." not in name for name in strange) or any(hasattr(module, one) for one in parts)
    if not (strange and trunk) or inside or names.index(strange[0]) < names.index(trunk[-1]):
        return state
    rest = {name: state[name] for name in names if name in wanted}
    if describe_mismatch(module, rest):
        return state
    warnings.warn(
        f"{what}: {', '.join(map(shown, parts))} ({len(strange)} weights) are left out, since all "
        "weights of the network are there without them. They are taken for heads that training "
        "needed; if the network computes its codes with them, it is another one.",
        BackboneWarning,
        stacklevel=2,
    )
    return rest


def named(what: str, prefix: str) -> str:
    """Whose weights these are, and what was taken off their names."""
    return f"{what}, whose names were read without {prefix!r}" if prefix else what
