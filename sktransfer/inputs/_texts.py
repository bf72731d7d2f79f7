"""Texts: anything that holds them becomes a sequence of str, each with a digest."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..exceptions import (
    InputError,
    SktransferWarning,
    TextError,
    TruncationWarning,
    VocabularyWarning,
    shown,
)
from ._collect import is_missing, name_of
from ._images import digest_of

__all__ = ["OpenedText", "TextReading", "Texts", "as_texts", "look_like_texts"]


_SPLITS = ("texts", "pairs", "words")
# Above that share of unknown tokens, or of texts of which half is unknown, texts are hardly read.
_UNKNOWN, _HARDLY = 0.1, 0.5
# Texts that are files of images say that they were meant for another network.
_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
_LOOKED_AT = 20
_ENDING = re.compile(r"\.\w{2,5}$")


def as_texts(X: Any, *, split: str = "texts") -> Texts:
    """Take anything that holds texts as a sequence of texts.

    Parameters
    ----------
    X : list, tuple, array, Series, Arrow array or data frame of one column
        Of str, also numpy's. Texts that are missing, or are none, are told of when they are
        opened, with their number.
    split : {"texts", "pairs", "words"}, default="texts"
        What an item is: a str, two of them (a data frame or array of two columns, or a list of
        pairs), or a sentence that is split into words (a list of lists of str).

    Returns
    -------
    Texts
        One for each row, in order.

    Raises
    ------
    InputError
        If `X` is empty, one text alone, or not a collection of texts.
    """
    items, n_columns = _collected(X, split)
    if not items:
        raise InputError(
            "Found array with 0 sample(s): X is empty, at least one text is required."
        )
    some = items[:_LOOKED_AT]
    if split == "texts" and all(str(one).lower().endswith(_IMAGES) for one in some):
        warnings.warn(
            f"X looks like names of image files, such as {shown(repr(some[0]), 60)}: the names "
            "would be read, not the images. For images take CNNCodes or FineTuneClassifier.",
            SktransferWarning,
            stacklevel=3,
        )
    return Texts(items, split, n_columns)


def look_like_texts(X: Any) -> bool:
    """Whether what was given as images are texts: strings, of which the first are words in rows.

    Strings with the ending of a file are paths, and so are those without a blank.
    """
    rows = getattr(X, "values", X)
    if not isinstance(rows, (list, tuple, np.ndarray)) or getattr(rows, "ndim", 1) != 1:
        return False
    some = [one for one in rows[:_LOOKED_AT] if not is_missing(one)]
    if not some or not all(isinstance(one, str) for one in some):
        return False
    words = [len(one.split()) > 1 and not _ENDING.search(one) for one in some]
    return 2 * sum(words) > len(words) and not any(os.path.exists(one) for one in some)


@dataclass(frozen=True)
class TextReading:
    """How an input was read, and later ones are to be.

    Attributes
    ----------
    split : {"texts", "pairs", "words"}
    """

    split: str = "texts"

    def made_up(self, preparation: Any) -> Texts:
        """One text of two words, for whoever warms up."""
        item: Any = {"texts": "a text", "pairs": ("a", "text"), "words": ["a", "text"]}[self.split]
        return self.items([item])

    def items(self, X: Any) -> Texts:
        """Take later input as texts."""
        return as_texts(X, split=self.split)


@dataclass
class _Account:
    """What was met in texts, to be told once for all of them."""

    n_read: int = 0
    n_cut: int = 0
    n_tokens: int = 0
    n_lost: int = 0
    n_unknown: int = 0
    n_strange: int = 0
    seen: set[int] = field(default_factory=set)


class Texts:
    """A sequence of texts; made by :func:`as_texts`.

    Attributes
    ----------
    n_columns : int or None
        Columns of a table, None for other input.
    reading : TextReading
        How later input is to be read.
    """

    noun: ClassVar[str] = "text"
    in_memory: ClassVar[bool] = True

    def __init__(self, items: Sequence[Any], split: str, n_columns: int | None):
        self._items, self._split, self.n_columns = items, split, n_columns
        self._account = _Account()

    @property
    def reading(self) -> TextReading:
        return TextReading(self._split)

    def __len__(self) -> int:
        return len(self._items)

    def source(self, index: int) -> None:
        """Texts have no path."""
        return

    def label(self, index: int) -> str:
        """Name a text in messages."""
        return f"text {index}"

    def raw(self, index: int) -> Any:
        """The text itself: a str, a pair of them, or a list of words; checked.

        Raises
        ------
        TextError
            If it is missing or no text.
        """
        return _CHECKED[self._split](self._items[index], index)

    def n_words(self, index: int) -> int:
        """How many words a sentence is split into; 0 of what is no list of words."""
        item = self._items[index]
        is_list = isinstance(item, Sequence | np.ndarray) and not isinstance(item, str | bytes)
        return len(item) if is_list else 0

    def open(self, index: int) -> OpenedText:
        """One text, with its digest.

        Raises
        ------
        TextError
            If it is missing, empty or no text; says which.
        """
        return OpenedText(self.raw(index), index, self._account)

    def tell(self) -> None:
        """Warn of what was cut off texts, and of texts that the tokenizer does not know."""
        # Texts that are opened again are not counted again.
        seen, self._account = self._account, _Account(seen=self._account.seen)
        if seen.n_cut:
            warnings.warn(
                f"{seen.n_cut} of {seen.n_read} texts are longer than the network's maximum: "
                f"{seen.n_lost / seen.n_tokens:.0%} of all tokens were dropped. Take "
                'long_texts="windows", which reads all of them, or a larger max_tokens.',
                TruncationWarning,
                stacklevel=2,
            )
        if seen.n_unknown > _UNKNOWN * seen.n_tokens or seen.n_strange > _UNKNOWN * seen.n_read:
            warnings.warn(
                f"The tokenizer of the network does not know {seen.n_unknown} of {seen.n_tokens} "
                f"tokens of the texts ({seen.n_unknown / seen.n_tokens:.0%}), such as letters of "
                f"other scripts or emoji. In {seen.n_strange} of {seen.n_read} texts it knows less "
                "than half of the tokens; their codes are hardly useful. Take a network for this "
                "language.",
                VocabularyWarning,
                stacklevel=2,
            )


class OpenedText:
    """One text in memory.

    Attributes
    ----------
    content : str, (str, str) or tuple of str
        A text, a pair, or a sentence as words.
    digest : bytes
        16 bytes, of SHA-256 over its UTF-8 and what kind of item it is.
    n_bytes : int
        Of its UTF-8.
    prepared : dict
        What preparations made of it, by their keys: it is needed twice.
    """

    __slots__ = ("_account", "_index", "content", "digest", "n_bytes", "prepared")

    def __init__(self, content: Any, index: int, account: _Account):
        self.content, self._index, self._account = content, index, account
        parts = [content] if isinstance(content, str) else content
        try:
            encoded = [part.encode() for part in parts]
        except UnicodeEncodeError as error:
            raise self.error(
                f"holds half of a surrogate pair ({error.object[error.start]!r} at character "
                f'{error.start}), which is no character; text.encode("utf-8", "replace") '
                '.decode() replaces such halves'
            ) from error
        # Lengths before contents, so that no two lists of words run together.
        kind = "text" if isinstance(content, str) else f"texts {[len(one) for one in encoded]}"
        self.digest = digest_of(kind, b"".join(encoded))
        self.n_bytes = sum(map(len, encoded))
        self.prepared: dict[str, np.ndarray] = {}

    @property
    def label(self) -> str:
        return f"text {self._index}"

    def error(self, cause: str) -> TextError:
        """What is wrong with it, with its number."""
        return TextError(cause, self._index)

    def note(self, *, n_tokens: int, n_lost: int, n_unknown: int) -> None:
        """Say what a preparation met; counted once for each text."""
        account = self._account
        if self._index in account.seen:
            return
        account.seen.add(self._index)
        account.n_read += 1
        account.n_cut += n_lost > 0
        account.n_tokens += n_tokens
        account.n_lost += n_lost
        account.n_unknown += n_unknown
        account.n_strange += n_unknown > _HARDLY * n_tokens


# From any input to a list of items.


def _collected(X: Any, split: str) -> tuple[list[Any], int | None]:
    what = {"texts": "texts", "pairs": "pairs of texts", "words": "lists of words"}[split]
    if isinstance(X, (str, bytes, bytearray)):
        way = "[X.split()]" if split == "words" else "[X]"
        raise InputError(f"X must be a collection of {what}, got {name_of(X)} alone; pass {way}.")
    if isinstance(X, (Mapping, Set)) or hasattr(X, "tocsr"):
        raise InputError(
            f"X must be a list, an array or a column of {what}, got {name_of(X)}."
        )
    if hasattr(type(X), "columns"):
        return _of_frame(X, split, what)
    if hasattr(X, "to_pylist"):  # Arrow
        return X.to_pylist(), None
    if hasattr(X, "to_list") or isinstance(X, np.ndarray) or hasattr(X, "__array__"):
        return _of_array(X, split, what)
    if isinstance(X, Sequence) or (hasattr(X, "__getitem__") and hasattr(X, "__len__")):
        return [X[i] for i in range(len(X))] if not isinstance(X, list) else X, None
    hint = "; pass a list of them: list(X)" if isinstance(X, Iterable) else ""
    raise InputError(f"X must be a list, an array or a column of {what}, got {name_of(X)}{hint}.")


def _of_frame(X: Any, split: str, what: str) -> tuple[list[Any], int]:
    if not hasattr(X, "shape"):
        raise InputError(f"X must be a data frame in memory, got {name_of(X)}; collect it first.")
    wanted = 2 if split == "pairs" else 1
    columns: Any = getattr(X, "column_names", X.columns)  # of Arrow
    if X.shape[1] != wanted:
        names = ", ".join(repr(str(name)) for name in list(columns)[:8])
        raise InputError(
            f"X must be {'two columns' if wanted == 2 else 'one column'} of {what}, got a data "
            f"frame with {X.shape[1]} ({shown(names)}). Choose by name, X[[name]], join columns, "
            'X["a"] + ". " + X["b"], or give each a transformer of its own in a ColumnTransformer; '
            "pairs=True reads two columns together."
        )
    lists = [_listed(X[name]) for name in columns]
    if wanted == 1:
        return lists[0], 1
    return list(zip(*lists, strict=True)), 2


def _listed(column: Any) -> list[Any]:
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(column, method):
            return list(getattr(column, method)())
    return list(column)


def _of_array(X: Any, split: str, what: str) -> tuple[list[Any], int | None]:
    is_series = hasattr(X, "to_list") and not isinstance(X, np.ndarray)
    array: Any = X if isinstance(X, np.ndarray) else None
    if not is_series and array is None:
        array = np.asarray(X)
    if is_series:
        return _listed(X), None
    if array.ndim == 0:
        raise InputError(f"X must be a collection of {what}, got {name_of(X)} alone; pass [X].")
    if array.dtype.kind == "S":
        raise InputError(f"X must hold str, got bytes: numpy.char.decode(X, 'utf-8') makes {what}.")
    if array.dtype.kind not in "OUT":
        raise InputError(f"X must be a collection of {what}, got an array of {array.dtype}.")
    if array.ndim == 1:
        return array.tolist(), None
    wanted = 2 if split == "pairs" else 1
    if split == "words" and array.ndim == 2 and not _has_lists(array):
        return array.tolist(), None  # sentences that have all the same number of words
    if array.ndim == 2 and array.shape[1] == wanted:
        rows = array.tolist()
        return (rows if wanted == 2 else [row[0] for row in rows]), wanted
    raise InputError(
        f"X must be {what} of shape (n,) or (n, {wanted}), got an array of shape {array.shape}."
    )


def _has_lists(column: np.ndarray) -> bool:
    """Whether it is a column whose cells are lists."""
    return column.shape == (len(column), 1) and any(
        isinstance(cell, list | tuple | np.ndarray) for cell in column[:, 0]
    )


# What an item must be.


def _text(item: Any, index: int) -> str:
    if isinstance(item, str):
        if not item or item.isspace():
            kind = "is empty" if not item else "holds white space alone"
            raise TextError(f"{kind}: it has no words", index)
        return str(item)
    raise TextError(_cause(item, "a str"), index)


def _pair(item: Any, index: int) -> tuple[str, str]:
    if isinstance(item, str) or not isinstance(item, Sequence | np.ndarray) or len(item) != 2:
        raise TextError(_cause(item, "a pair of str"), index)
    return _text(item[0], index), _text(item[1], index)


def _words(item: Any, index: int) -> tuple[str, ...]:
    if isinstance(item, str):
        raise TextError(
            f"must be a list of words, got the str {shown(repr(item), 60)}. If X is one sentence, "
            "pass [X]; if its items are sentences, split each: sentence.split()", index
        )  # fmt: skip
    if not isinstance(item, Sequence | np.ndarray):
        raise TextError(_cause(item, "a list of words"), index)
    words = item.tolist() if isinstance(item, np.ndarray) else item
    for number, word in enumerate(words):
        if not isinstance(word, str):
            raise TextError(f"word {number} {_cause(word, 'a str')}", index)
    return tuple(map(str, words))


_CHECKED: dict[str, Any] = {"texts": _text, "pairs": _pair, "words": _words}


def _cause(item: Any, wanted: str) -> str:
    if is_missing(item) or (isinstance(item, float) and math.isnan(item)):
        return f"is missing ({item!r})"
    if isinstance(item, (bytes, bytearray)):
        return f"must be {wanted}, got bytes; decode them: text.decode('utf-8')"
    return f"must be {wanted}, got {name_of(item)} ({shown(repr(item), 60)})"
