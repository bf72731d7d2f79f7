"""What makes two fits the same: parameters, photographs, targets and weights, as one hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import CodeType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engines import worker_pool

if TYPE_CHECKING:
    from ._base import FineTuneBase

__all__ = ["digest_of", "signature_of"]

# They change where and how something is computed or kept, not what comes out; the network is
# told by its fingerprint, and the seed is given.
_NO_MATTER = {
    "backbone", "bundle_weights", "cache", "cache_activations", "checkpoint_dir", "device",
    "distributed", "keep_checkpoints", "n_jobs", "random_state", "verbose", "warm_start",
    "weights",
}  # fmt: skip
_DEEPEST = 6


def signature_of(est: FineTuneBase, parts: list[Any], more: Any, start: Any) -> str:
    """One hash of a fit.

    Parameters
    ----------
    est : FineTuneBase
        With the network of the fit.
    parts : list of Part
        Photographs to learn from and to validate on.
    more : object
        Further data, such as groups.
    start : dict of str to ndarray, or None
        What had been learnt before the fit.
    """
    parameters = {k: v for k, v in est.get_params(deep=False).items() if k not in _NO_MATTER}
    seed = None if est.random_state is None else est._fitted.design.seed
    network = (est.backbone_.fingerprint, est.image_size_, est._fitted.design.n_outputs)
    data = [(_photographs(one.images), one.target, one.weight) for one in parts]
    return digest_of(
        (type(est).__name__, parameters, seed, network, getattr(est, "classes_", None), data,
         more, start)
    )  # fmt: skip


def digest_of(value: Any) -> str:
    """A hash that is the same in every process."""
    return hashlib.sha256(_describe(value, 0).encode()).hexdigest()[:32]


def _photographs(images: Any) -> str:
    digests = worker_pool().map(lambda number: images.open(number).digest, range(len(images)))
    return hashlib.sha256(b"".join(digests)).hexdigest()[:32]


def _describe(value: Any, depth: int) -> str:
    """A text that tells values apart, and holds no address in memory."""
    if depth > _DEEPEST:
        return type(value).__qualname__
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic)):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            return f"array {_all(value.ravel().tolist(), depth)} {value.shape}"
        data = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"array {data} {value.dtype} {value.shape}"
    if isinstance(value, Mapping):
        return "{" + _all([item for key in value for item in (key, value[key])], depth) + "}"
    if isinstance(value, (set, frozenset)):
        return f"set {sorted(_describe(one, depth + 1) for one in value)}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} [{_all(list(value), depth)}]"
    if hasattr(value, "__qualname__"):
        code = getattr(value, "__code__", None)
        return f"{value.__module__}.{value.__qualname__} {_code(code) if code else ''}"
    return f"{type(value).__module__}.{type(value).__qualname__} {_object(value, depth)}"


def _all(values: list[Any], depth: int) -> str:
    return ", ".join(_describe(value, depth + 1) for value in values)


def _code(code: CodeType) -> str:
    constants = [one for one in code.co_consts if not isinstance(one, CodeType)]
    inner = [_code(one) for one in code.co_consts if isinstance(one, CodeType)]
    return f"{code.co_code.hex()} {code.co_names} {constants!r} {inner}"


def _object(value: Any, depth: int) -> str:
    """Its repr where that says more than an address; else its parameters."""
    text = repr(value)
    if " at 0x" not in text and " object at" not in text:
        return text
    own = vars(value) if hasattr(value, "__dict__") else {}
    # What ends or begins with an underscore was made in a fit.
    kept = {k: v for k, v in own.items() if not k.startswith("_") and not k.endswith("_")}
    return _describe(kept, depth + 1)
