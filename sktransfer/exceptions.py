"""Every error and warning that sktransfer raises.

::

    SktransferError
    ├── InputError (ValueError)          the input as a whole is not a collection of items
    │   ├── ColumnError                  a table has no such column
    │   └── ValueRangeError              what black and white are cannot be told
    ├── ItemError (ValueError)           one item cannot be used; says which
    │   ├── ImageError                   an image
    │   └── TextError                    a text
    ├── BackboneError
    │   ├── UnknownBackboneError (ValueError)   no network of this name
    │   ├── LayerError (ValueError)             no layer of this name or number
    │   ├── TracingError                        the network's graph cannot be followed
    │   ├── PreprocessingError (ValueError)     nobody knows how to prepare images for it
    │   └── WeightsError
    │       ├── WeightsUnavailableError (OSError)   no file, no network, no package
    │       └── WeightsMismatchError (ValueError)   wrong hash, damaged file, keys that do not fit
    ├── DatasetUnavailableError (OSError)  a data set is not there and cannot be downloaded
    ├── EngineError (RuntimeError)       a network could not be run as asked
    ├── ExportError (ValueError)         what was fitted cannot become a plain network, or a file
    ├── StoreError (OSError)             the store of codes cannot be opened
    ├── CodesFileError (OSError)         codes cannot be written to this file
    └── TrainingError (RuntimeError)     training cannot begin or continue
        └── CheckpointError              checkpoints are of another fit, in use, or damaged

    SktransferWarning (UserWarning)
    ├── BackboneWarning                  what was taken of a network of one's own is a guess
    ├── ItemSkippedWarning               items that could not be read have NaN rows
    │   ├── ImageSkippedWarning          images
    │   └── TextSkippedWarning           texts
    ├── CheckpointWarning                training continues, but its checkpoint was not written
    ├── DivergenceWarning (ConvergenceWarning)  training made the loss worse than guessing
    ├── ClippingWarning                  values beyond value_range were clipped
    ├── ValueRangeWarning                images look nearly black: is white what it is taken for?
    ├── TruncationWarning                of long texts a part alone was read
    ├── VocabularyWarning                the tokenizer does not know a good part of the texts
    ├── EngineWarning                    another engine, precision or batch size was taken
    └── StoreWarning                     codes are right, but the store could not keep them
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from sklearn.exceptions import ConvergenceWarning

__all__ = [
    "BackboneError",
    "BackboneWarning",
    "CheckpointError",
    "CheckpointWarning",
    "ClippingWarning",
    "CodesFileError",
    "ColumnError",
    "DatasetUnavailableError",
    "DivergenceWarning",
    "EngineError",
    "EngineWarning",
    "ExportError",
    "ImageError",
    "ImageSkippedWarning",
    "InputError",
    "ItemError",
    "ItemSkippedWarning",
    "LayerError",
    "PreprocessingError",
    "SktransferError",
    "SktransferWarning",
    "StoreError",
    "StoreWarning",
    "TextError",
    "TextSkippedWarning",
    "TracingError",
    "TrainingError",
    "TruncationWarning",
    "UnknownBackboneError",
    "ValueRangeError",
    "ValueRangeWarning",
    "VocabularyWarning",
    "WeightsError",
    "WeightsMismatchError",
    "WeightsUnavailableError",
]


# Longer messages are cut in the middle: logs and notebooks stay readable, whatever was given.
LONGEST_MESSAGE = 1_900


def shown(value: object, longest: int = 200) -> str:
    """`value` as a message shows it: on one line, and not longer than `longest` characters.

    Parameters
    ----------
    value : object
        What a user has given: a path, a name, a label. What is not a string is shown by ``str``.
    longest : int, default=200
        Characters that are shown at most; what is longer is cut in the middle.

    Returns
    -------
    str
        Plain text where all of it can be printed, else as ``repr`` writes it.
    """
    text = str(value)
    if len(text) > 10 * longest:  # repr of a whole file would take its time
        text = f"{text[: 5 * longest]}{text[-5 * longest :]}"
    if not text.isprintable() or text != text.strip():
        text = repr(text)
    return _shortened(text, longest)


def _shortened(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    cut = f" … ({len(text) - longest} more characters) … "
    kept = max(longest - len(cut), 20)
    return f"{text[: kept - kept // 3]}{cut}{text[len(text) - kept // 3 :]}"


def nearest(name: str, known: Iterable[str], n: int = 4, cutoff: float = 0.6) -> list[str]:
    """The known names most like a wrong one, best first, whatever their case."""
    by_plain: dict[str, str] = {}
    for one in known:
        by_plain.setdefault(_plain(one), one)
    found = difflib.get_close_matches(_plain(name), list(by_plain), n=n, cutoff=cutoff)
    return [by_plain[one] for one in found]


def did_you_mean(
    name: str, known: Iterable[str], first: Iterable[str] = (), *, cutoff: float = 0.6
) -> str:
    """A question that names the nearest, with a blank behind; empty if none is near."""
    near = list(dict.fromkeys([*first, *nearest(name, known, cutoff=cutoff)]))[:4]
    return f"Did you mean {' or '.join(repr(one) for one in near)}? " if near else ""


def _plain(name: str) -> str:
    """Without case, separators and the prefix: people write ResNet-50 for resnet50."""
    return name.rpartition(":")[2].casefold().replace("-", "").replace("_", "").replace(" ", "")


class SktransferError(Exception):
    """Base of every error that sktransfer raises on purpose; its message is never long."""

    def __str__(self) -> str:
        return _shortened(super().__str__(), LONGEST_MESSAGE)


class InputError(SktransferError, ValueError):
    """The input as a whole is not a collection of items, such as images or texts."""


class ColumnError(InputError):
    """A table has no column of this name, or none that can be taken for what is needed."""


class ValueRangeError(InputError):
    """What black and white are in an array cannot be told; name ``value_range=``."""


class ItemError(SktransferError, ValueError):
    """One item of the input cannot be used.

    Parameters
    ----------
    cause : str
        What is wrong with it.
    index : int or None
        Its row in the input, counted from 0.
    source : str or None
        Its path, where it has one.
    remedy : str, default=""
        What whoever calls from Python may do; ends the message, and is no part of the cause.
    """

    noun = "item"

    def __init__(
        self, cause: str, index: int | None = None, source: str | None = None, remedy: str = ""
    ):
        self.cause, self.index, self.source = cause.removesuffix("."), index, source
        self.remedy = remedy.removesuffix(".")
        super().__init__(cause, index, source, remedy)

    def __str__(self) -> str:
        where = f"{_article(self.noun)} {self.noun}"
        if self.index is not None:
            where = f"{self.noun} {self.index}"
        if self.source is not None:
            where += f" ({shown(self.source)})"
        return _shortened(f"{where}: {self.cause}{self.remedy}.", LONGEST_MESSAGE)


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


class ImageError(ItemError):
    """One image cannot be used: it cannot be opened or decoded, or is none."""

    noun = "image"


class TextError(ItemError):
    """One text cannot be used: it is missing, empty or no text."""

    noun = "text"


class BackboneError(SktransferError):
    """A network cannot be loaded or cannot be cut as asked."""


class UnknownBackboneError(BackboneError, ValueError):
    """No network has this name."""


class LayerError(BackboneError, ValueError):
    """The network has no cut point of this name or number."""


class TracingError(BackboneError):
    """The graph of the network cannot be followed symbolically."""


class PreprocessingError(BackboneError, ValueError):
    """Nobody knows how to prepare images for these weights; name ``preprocessing=``."""


class WeightsError(BackboneError):
    """The weights of a network cannot be used."""


class WeightsUnavailableError(WeightsError, OSError):
    """The weights cannot be loaded: no file, no network connection, no package."""


class WeightsMismatchError(WeightsError, ValueError):
    """The weights are there but wrong: another hash, a damaged file, keys that do not fit."""


class DatasetUnavailableError(SktransferError, OSError):
    """A data set is not there, and may not or cannot be downloaded."""


class EngineError(SktransferError, RuntimeError):
    """A network could not be run as asked."""


class ExportError(SktransferError, ValueError):
    """A fitted estimator cannot become a plain network, or a file that runs elsewhere."""


class StoreError(SktransferError, OSError):
    """The store of codes cannot be opened."""


class CodesFileError(SktransferError, OSError):
    """Codes cannot be written to this file: it is of something else, in use, or out of room."""


class TrainingError(SktransferError, RuntimeError):
    """Training cannot begin or continue: the loss is not a number, or memory does not suffice."""


class CheckpointError(TrainingError):
    """Checkpoints cannot be used: they are of another fit, damaged, or in use."""


class SktransferWarning(UserWarning):
    """Base of every warning that sktransfer gives; its message is never long."""

    def __str__(self) -> str:
        return _shortened(super().__str__(), LONGEST_MESSAGE)


class BackboneWarning(SktransferWarning):
    """What was taken of a network of one's own is a guess, or its codes are not repeatable."""


class ItemSkippedWarning(SktransferWarning):
    """Some items could not be read; their rows are NaN."""


class ImageSkippedWarning(ItemSkippedWarning):
    """Some images could not be read; their rows are NaN."""


class TextSkippedWarning(ItemSkippedWarning):
    """Some texts could not be read; their rows are NaN."""


class CheckpointWarning(SktransferWarning):
    """Training continues, but a checkpoint could not be written."""


class ClippingWarning(SktransferWarning):
    """Values beyond ``value_range`` were clipped to it."""


class ValueRangeWarning(SktransferWarning):
    """Images are nearly black as they are read; name ``value_range=`` if white is another value."""


class TruncationWarning(SktransferWarning):
    """Of long texts a part alone was read; says of how many, and how much."""


class VocabularyWarning(SktransferWarning):
    """The tokenizer does not know a good part of the texts: another script or language?"""


class DivergenceWarning(SktransferWarning, ConvergenceWarning):
    """Training made the loss larger than that of a network that has learnt nothing."""


class EngineWarning(SktransferWarning):
    """Another engine, precision or batch size than asked was taken."""


class StoreWarning(SktransferWarning):
    """The codes are right, but the store could not keep them."""
