"""What images and texts differ in, as far as selection is concerned: one small class each."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from .._parameters import (
    Cache,
    Compute,
    ImageInput,
    Network,
    TextInput,
    TextNetwork,
    TextPairs,
    TextPooling,
)
from ..codes import CNNCodes, TextCodes
from ..exceptions import ItemError, did_you_mean, shown
from ..finetune import (
    FineTuneClassifier,
    FineTuneRegressor,
    FineTuneTextClassifier,
    FineTuneTextRegressor,
)
from ..inputs import LONG_TEXTS, RESIZES, as_images, as_texts, lazy_images
from ..networks import POOLINGS, is_text_network
from ._kinds import Kind, LinearTags

__all__ = [
    "BAG_OF_WORDS",
    "IMAGES",
    "MANY_ODD",
    "TEXTS",
    "Modality",
    "check_params",
    "members_of",
    "modality_named",
    "modality_of",
    "plain_texts",
    "rows_at",
]


# The strategy that needs no network.
BAG_OF_WORDS = "bag of words"
# Of items that do not fit the network, from which on other ways to read them are tried.
MANY_ODD = 0.1
# Items that are looked at for that.
_LOOKED_AT = 200


class Modality(ABC):
    """What kind of items a network is for, and what selection does differently with them.

    Attributes
    ----------
    noun : str
        What an item is called.
    codes : type
        The transformer that gives codes of them.
    shared : tuple of type
        The groups of parameters that estimators that are advised and tried have in common.
    reading : str
        The parameter that says how an item is read that does not fit the network.
    readings, all_readings : sequence of str
        Its values that are worth a try, and all.
    read_by : str
        The verb with which such a value is told.
    some : (int, int)
        Items, and median class size, from which on "fine-tune last" is worth its time.
    ends_early : bool
        Whether what is fine-tuned ends with an earlier layer that tells more.
    last : str
        What is trained by "fine-tune last", in words.
    last_share : float
        Its share of the work of training all of the network.
    errors_left : (float, float)
        Share of the errors of a probe, by cross-validation, that are expected of a vote of networks
        that are fine-tuned to few items, and to more: the mean of those in docs/benchmarks.md.
    tuning : dict
        Parameters of the estimators that fine-tune, where they are not the defaults.
    rates : list of float
        Learning rates that are worth a search.
    shows_suspects : str
        The method of a recommendation that shows items whose label looks wrong.
    """

    noun: ClassVar[str]
    codes: ClassVar[Any]
    shared: ClassVar[tuple[Any, ...]]
    reading: ClassVar[str]
    readings: ClassVar[Sequence[str]]
    all_readings: ClassVar[Sequence[str]]
    read_by: ClassVar[str]
    some: ClassVar[tuple[int, int]]
    ends_early: ClassVar[bool]
    last: ClassVar[str]
    last_share: ClassVar[float]
    errors_left: ClassVar[tuple[float, float]]
    tuning: ClassVar[dict[str, Any]]
    rates: ClassVar[list[float]]
    shows_suspects: ClassVar[str]

    @abstractmethod
    def items(self, codes: Any, X: Any) -> Any:
        """The input as items, as a transformer would read it."""

    @abstractmethod
    def take(self, codes: Any, X: Any, numbers: np.ndarray, n: int) -> Any:
        """Some of the `n` items, as an input that `rows_at` can take some of."""

    @abstractmethod
    def shown(self, items: Any, index: int) -> Any:
        """An item as a cell of a table shows it."""

    @abstractmethod
    def is_odd(self, codes: Any) -> Callable[[Any], bool]:
        """A function that tells of an opened item whether it fits the network badly."""

    @abstractmethod
    def told_odd(self, share: float) -> str:
        """Of how many items that is so, in words."""

    @abstractmethod
    def subject(self, kind: Kind) -> str:
        """What is like or unlike that which the network was trained on."""

    @abstractmethod
    def tuner(self, kind: Kind) -> Any:
        """The estimator that fine-tunes for a kind of target."""

    @abstractmethod
    def n_last(self, n_stages: int) -> int:
        """How many of so many stages "fine-tune last" trains."""

    @abstractmethod
    def depths(self, n_stages: int) -> list[Any]:
        """How much of so many stages is worth a search, beginning with the least."""

    @abstractmethod
    def pools_any_layer(self, pooling: str | None) -> bool:
        """Whether a pooling gives comparable codes of layers of all depths."""

    def baseline(self, codes: Any, kind: Kind) -> Any:
        """An estimator that needs no network, not fitted; None where there is no such."""
        return None

    def baseline_grid(self, kind: Kind) -> dict[str, list[Any]]:
        """What is worth searching of it."""
        return {}

    def odd_share(self, codes: Any, items: Any, readable: np.ndarray | None = None) -> float:
        """Share of items that do not fit the network, of some of them."""
        numbers = np.arange(len(items)) if readable is None else np.flatnonzero(readable)
        is_odd, found = self.is_odd(codes), []
        for index in numbers[:: max(1, len(numbers) // _LOOKED_AT)]:
            try:
                found.append(is_odd(items.open(int(index))))
            except ItemError:  # the pass will say so
                continue
        return float(np.mean(found)) if found else 0.0

    def reading_of(self, codes: Any) -> str:
        """How a transformer reads items that do not fit."""
        return getattr(codes, self.reading)

    def read_as(self, codes: Any, reading: str) -> Any:
        """The same transformer, reading them otherwise."""
        return clone(codes).set_params(**{self.reading: reading})

    def other_readings(self, codes: Any) -> list[str]:
        """What is to be tried besides the one in use."""
        return [one for one in self.readings if one != self.reading_of(codes)]

    def check_reading(self, asked: str) -> None:
        """Refuse what is no way to read them.

        Raises
        ------
        ValueError
            If it is none; "auto" is one.
        """
        if asked not in ("auto", *self.all_readings):
            raise ValueError(
                f"{self.reading} must be auto or one of {', '.join(self.all_readings)}, got "
                f"{asked!r}."
            )


class _Images(Modality):
    noun, codes, shared = "image", CNNCodes, (Network, ImageInput, Compute, Cache)
    reading, readings, all_readings = "resize", ("pad", "squash", "crop"), RESIZES
    read_by = "resized by"
    some = (100, 5)
    ends_early, last, last_share = True, "2 stages", 0.3
    errors_left = (0.9, 0.75)
    tuning: ClassVar[dict[str, Any]] = {"max_epochs": 10}
    rates: ClassVar[list[float]] = [1e-3, 2e-3, 5e-3]
    shows_suspects = "plot_suspects"

    def items(self, codes: Any, X: Any) -> Any:
        return as_images(X, image_shape=codes.image_shape, value_range=codes.value_range)

    def take(self, codes: Any, X: Any, numbers: np.ndarray, n: int) -> Any:
        return rows_at(X, numbers, n)

    def shown(self, items: Any, index: int) -> Any:
        return items.source(index) or items.label(index)

    def is_odd(self, codes: Any) -> Callable[[Any], bool]:
        def is_tall(image: Any) -> bool:
            width, height = image.picture().size
            return max(width, height) > 1.1 * min(width, height)

        return is_tall

    def told_odd(self, share: float) -> str:
        return f"{share:.0%} of the images are not square"

    def subject(self, kind: Kind) -> str:
        return "the images"

    def tuner(self, kind: Kind) -> Any:
        return FineTuneRegressor if kind.are_values else FineTuneClassifier

    def n_last(self, n_stages: int) -> int:
        # Two have been better than one on every set that was measured.
        return min(2, n_stages)

    def depths(self, n_stages: int) -> list[Any]:
        return [1, 2, "all"]

    def pools_any_layer(self, pooling: str | None) -> bool:
        return pooling in POOLINGS and pooling not in ("flatten", "token")


class _Texts(Modality):
    noun, codes = "text", TextCodes
    shared = (TextNetwork, TextPooling, TextPairs, TextInput, Compute, Cache)
    reading, readings = "long_texts", ("windows", "head", "head_tail")
    all_readings, read_by = LONG_TEXTS, "read by"
    # Of 100 film sentences nothing was gained over a probe, of 300 three points, and as much by a
    # network that ends with the block that a probe prefers as by the whole.
    some = (200, 20)
    ends_early, last, last_share = False, "two thirds of the blocks", 0.7
    errors_left = (0.9, 0.85)
    tuning: ClassVar[dict[str, Any]] = {}
    rates: ClassVar[list[float]] = [5e-4, 1e-3, 2e-3]
    shows_suspects = "suspect_table"

    def items(self, codes: Any, X: Any) -> Any:
        return as_texts(X, split=_split_of(codes))

    def take(self, codes: Any, X: Any, numbers: np.ndarray, n: int) -> Any:
        items = self.items(codes, X)
        return np.fromiter((items.raw(int(one)) for one in numbers), object, len(numbers))

    def shown(self, items: Any, index: int) -> Any:
        return items.raw(index)

    def is_odd(self, codes: Any) -> Callable[[Any], bool]:
        codes = self.read_as(codes, "windows")
        prepare = codes._prepare(codes._load())
        return lambda text: len(prepare(text)) > 1

    def told_odd(self, share: float) -> str:
        return f"{share:.0%} of the texts are longer than the network reads at a time"

    def subject(self, kind: Kind) -> str:
        # Of one text the network may tell the topic and not the tone: the question counts.
        return f"the texts with their {kind.noun}"

    def tuner(self, kind: Kind) -> Any:
        return FineTuneTextRegressor if kind.are_values else FineTuneTextClassifier

    def n_last(self, n_stages: int) -> int:
        # The first stage is the embeddings.
        return max(1, round(2 * (n_stages - 1) / 3))

    def depths(self, n_stages: int) -> list[Any]:
        last = self.n_last(n_stages)
        return [*dict.fromkeys([max(1, last // 2), last]), "all"]

    def pools_any_layer(self, pooling: str | None) -> bool:
        return True

    def baseline(self, codes: Any, kind: Kind) -> Any:
        """Words and pairs of words, weighted by how rare they are, and a linear model."""
        plain = FunctionTransformer(plain_texts, kw_args={"split": _split_of(codes)})
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        name, _ = kind.linear()
        return Pipeline([("texts", plain), ("tfidf", words), (name, clone(_ON_WORDS[kind.noun]))])

    def baseline_grid(self, kind: Kind) -> dict[str, list[Any]]:
        return {"tfidf__ngram_range": [(1, 1), (1, 2)], **_GRID_ON_WORDS[kind.noun]}


IMAGES: Modality = _Images()
TEXTS: Modality = _Texts()


def modality_named(noun: str) -> Modality:
    """That of items that are called so."""
    return IMAGES if noun == IMAGES.noun else TEXTS


def modality_of(backbone: Any) -> Modality:
    """What a network is for, or all of several, by names, folders, modules or transformers.

    Raises
    ------
    ValueError
        If some are for images and some for texts.
    """
    members = list(members_of(backbone))
    texts = [_is_for_texts(one) for one in members]
    if any(texts) and not all(texts):
        one, other = members[texts.index(True)], members[texts.index(False)]
        raise ValueError(
            "networks must be all for images or all for texts, got "
            f"{shown(_name_of(one))}, which is for texts, and {shown(_name_of(other))}, which is "
            "for images."
        )
    return TEXTS if any(texts) else IMAGES


def members_of(backbone: Any) -> Iterable[Any]:
    """Networks one by one, of one or several."""
    if isinstance(backbone, Mapping):
        return backbone.values()
    return backbone if isinstance(backbone, (list, tuple)) else [backbone]


def rows_at(X: Any, numbers: np.ndarray, n: int) -> Any:
    """Some of the `n` rows of an array, a data frame, a list or a data set of torch."""
    X = lazy_images(X)
    if len(numbers) == n:
        return X
    if hasattr(X, "iloc"):
        return X.iloc[numbers]
    return X[numbers] if hasattr(X, "shape") else [X[int(i)] for i in numbers]


def check_params(
    function: Callable[..., Any], params: dict[str, Any], modality: Modality
) -> None:
    """Parameters that a function hands on must be those of the transformer.

    Raises
    ------
    TypeError
        If one is not; it names the nearest.
    """
    own = [name for name in signature(modality.codes).parameters if name != "backbone"]
    asked = signature(function).parameters
    known = [*asked, *own]
    for name in params:
        if name not in own and name in asked:
            raise TypeError(
                f"{function.__name__}() got {name!r}, which networks for {modality.noun}s do not "
                "have: leave it out."
            )
        if name not in own:
            raise TypeError(
                f"{function.__name__}() got {name!r}, which is no parameter of it or "
                f"{modality.codes.__name__}. {did_you_mean(name, known)}".rstrip()
            )


def _is_for_texts(backbone: Any) -> bool:
    """Whether a transformer or network is one for texts; others are for images."""
    if isinstance(backbone, (TextCodes, os.PathLike)):
        return True
    if isinstance(backbone, str):
        return is_text_network(backbone)
    return hasattr(getattr(backbone, "config", None), "vocab_size")


def _name_of(backbone: Any) -> str:
    backbone = getattr(backbone, "backbone", backbone)
    return repr(os.fspath(backbone) if isinstance(backbone, os.PathLike) else backbone)


# Texts without a network: the baseline.


def plain_texts(X: Any, split: str = "texts") -> list[str]:
    """Texts in any form as a list of str, as a bag of words takes them; those of a pair as one.

    Parameters
    ----------
    X : list, tuple, array, Series, Arrow array or data frame
        As in :class:`sktransfer.TextCodes`.
    split : {"texts", "pairs"}, default="texts"
        What an item is.

    Returns
    -------
    list of str

    Raises
    ------
    InputError
        If `X` is no collection of texts.
    TextError
        If one is missing or empty.
    """
    items = as_texts(X, split=split)
    found = (items.raw(index) for index in range(len(items)))
    return [one if isinstance(one, str) else "\n".join(one) for one in found]


def _split_of(codes: Any) -> str:
    return "pairs" if codes.pairs else "texts"


# Linear models on words by kind of target. That of labels is as good and as quick as a linear SVM,
# and has probabilities.
_ON_WORDS: dict[str, BaseEstimator] = {
    "labels": OneVsRestClassifier(
        LogisticRegression(C=10.0, solver="liblinear", dual=True, random_state=0)
    ),
    "values": Ridge(),
    "tags": LinearTags(C=10.0),
}
_GRID_ON_WORDS: dict[str, dict[str, list[Any]]] = {
    "labels": {"classify__estimator__C": [1.0, 10.0, 100.0]},
    "values": {"regress__alpha": [0.1, 1.0, 10.0]},
    "tags": {"classify__C": [1.0, 10.0, 100.0]},
}
