"""What makes two fits the same: parameters, images, targets and weights, each with a hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from skorch.callbacks import Callback

from .._content import Untellable, content_of, digest_of
from ..engines import worker_pool
from ..exceptions import CheckpointError, shown

if TYPE_CHECKING:
    from ._base import FineTuneBase

__all__ = ["Signature", "digest_of", "signature_of"]

# They change where and how something is computed or kept, not what comes out; the network is
# told by its fingerprint, and the seed is given.
_NO_MATTER = {
    "backbone", "bundle_weights", "cache", "cache_activations", "checkpoint_dir", "device",
    "distributed", "keep_checkpoints", "n_jobs", "random_state", "verbose", "warm_start",
    "weights",
}  # fmt: skip
_MOST_NAMED = 4


class Signature(NamedTuple):
    """What a fit is.

    Attributes
    ----------
    name : str
        One hash of all.
    facts : dict of str to (str, str)
        The hash of each part, and how a message shows it.
    """

    name: str
    facts: dict[str, tuple[str, str]]

    def differs_from(self, facts: dict[str, tuple[str, str]]) -> str:
        """Which parts of another fit are others, with both values."""
        told = []
        for name in sorted({*self.facts, *facts}):
            was, now = facts.get(name, ("", "not there")), self.facts.get(name, ("", "not there"))
            if was[0] != now[0]:
                values = "differs" if was[1] == now[1] else f"was {was[1]} and is {now[1]}"
                told.append(f"{name} {values}")
        more = len(told) - _MOST_NAMED
        return "; ".join(told[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


def signature_of(est: FineTuneBase, parts: list[Any], more: Any, start: Any) -> Signature:
    """What a fit is.

    Parameters
    ----------
    est : FineTuneBase
        With the network of the fit.
    parts : list of Part
        Images to learn from and to validate on.
    more : object
        Further data, such as groups.
    start : dict of str to ndarray, or None
        What had been learnt before the fit.

    Raises
    ------
    CheckpointError
        If the value of a parameter cannot be told from others.
    """
    facts = dict(_facts(est, parts, more, start))
    return Signature(digest_of({name: facts[name][0] for name in sorted(facts)}), facts)


def _facts(
    est: FineTuneBase, parts: list[Any], more: Any, start: Any
) -> Iterator[tuple[str, tuple[str, str]]]:
    for name, value in est.get_params(deep=False).items():
        if name not in _NO_MATTER:
            yield name, (_parameter(name, value), shown(repr(value), 80))
    # Without one the fit takes the seed that it had before.
    seed = None if est.random_state is None else est._fitted.design.seed
    yield "random_state", (digest_of(seed), shown(repr(est.random_state), 80))
    plain = {
        "the kind of estimator": type(est).__name__,
        "the network": est.backbone_.fingerprint,
        "the size of images": est.image_size_,
        "the number of outputs": est._fitted.design.n_outputs,
    }
    for name, value in plain.items():
        yield name, (digest_of(value), shown(repr(value), 80))
    classes = getattr(est, "classes_", None)
    yield "the set of classes", (digest_of(classes), _size(classes, "classes"))
    for where, part in zip(("X", "X of validation_data"), parts, strict=False):
        yield where, (_images(part.images), f"{len(part.images)} images")
        y, weight = where.replace("X", "y"), "sample_weight" + where.removeprefix("X")
        yield y, (digest_of(part.target), _size(part.target, "targets"))
        yield weight, (digest_of(part.weight), _size(part.weight, "weights"))
    yield "groups", (digest_of(more), _size(more, "groups"))
    yield "what was learnt before", (digest_of(start), _size(start, "tensors"))


def _size(values: Any, what: str) -> str:
    return "not given" if values is None else f"{len(values)} {what}"


def _images(images: Any) -> str:
    digests = worker_pool().map(lambda number: images.open(number).digest, range(len(images)))
    return hashlib.sha256(b"".join(digests)).hexdigest()[:32]


def _parameter(name: str, value: Any) -> str:
    try:
        return digest_of(_settings(value))
    except Untellable as error:
        raise CheckpointError(
            f"checkpoint_dir needs parameters whose values can be compared after a restart, but "
            f"{name} holds {shown(error)}."
        ) from error


def _settings(value: Any) -> Any:
    """Callbacks by their parameters: what begins or ends with an underscore was made in a fit."""
    if isinstance(value, (list, tuple)):
        return [_settings(one) for one in value]
    if not isinstance(value, Callback):
        return value
    own = {k: v for k, v in vars(value).items() if not k.startswith("_") and not k.endswith("_")}
    # An open log tells nothing about what is learnt.
    return type(value), {k: v if content_of(v).digest else type(v) for k, v in own.items()}
