"""What all transformers that give codes have in common: how they compute, name and write them."""

from __future__ import annotations

import os
import sys
import time
import warnings
from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import TransformerMixin, is_regressor
from sklearn.utils.validation import check_is_fitted

from .._sklearn import check_feature_names_in
from ..compute import ComputeSettings, FrozenPass, Quantized, normalize_rows, usable_devices
from ..config import as_lines, shows_progress
from ..exceptions import InputError, ItemError
from ..inputs import OR_NAN, Preparation, name_of, skipped, unreadable
from ..networks import Backbone, Cuttable, KeepsNetwork
from ..store import open_store
from ._dask import is_lazy, transform_lazily
from ._to_file import TransformReport, check_target, write_codes

__all__ = [
    "CodesBase",
    "FittedCodes",
    "RowCodes",
    "check_classifies",
    "progress_over",
    "refuse_regressor",
]


@dataclass(frozen=True)
class FittedCodes:
    """What decides the codes, as it was when `fit` was called.

    Attributes
    ----------
    layers : tuple of str
    columns : tuple of (str, int)
        As `FrozenPass.columns`.
    pooling, normalize : str or None
    preparation : object
        How items are made arrays, as plain values.
    reading : Reading or TextReading
        How an input is read.
    given : tuple
        What the parameters were, which `partial_fit` needs to be as they were.
    quantized : Quantized or None
        The network in 8 bits, where `fit` had ``precision="int8"``.
    """

    layers: tuple[str, ...]
    columns: tuple[tuple[str, int], ...]
    pooling: str | None
    preparation: Any
    normalize: str | None
    reading: Any
    given: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    quantized: Quantized | None = None


def refuse_regressor(estimator: Any) -> None:
    """Check, before anything is computed, that an estimator may be a classifier.

    Raises
    ------
    InputError
        If it says that it predicts values.
    """
    if hasattr(estimator, "__sklearn_tags__") and is_regressor(estimator):
        raise InputError(f"estimator must be a classifier, got {name_of(estimator)}.")


def check_classifies(estimator: Any) -> None:
    """Check that what was fitted has classes.

    Raises
    ------
    InputError
        If not.
    """
    if not hasattr(estimator, "classes_"):
        raise InputError(f"estimator must be a classifier, got {name_of(estimator)}.")


def progress_over(
    n_items: int, title: str, noun: str, verbose: int
) -> AbstractContextManager[Any]:
    """A bar of so many items, or None where a user with this `verbose` wants none."""
    if not shows_progress(verbose):
        return nullcontext()
    if as_lines():
        return ProgressLines(n_items, title, noun)
    from tqdm.auto import tqdm

    return tqdm(total=n_items, desc=title, unit=noun, unit_scale=True, file=sys.stderr)


class ProgressLines(AbstractContextManager["ProgressLines"]):
    """Progress as lines of a log: one a minute, none of what takes less."""

    def __init__(self, n_items: int, title: str, noun: str) -> None:
        self._n, self._title, self._noun, self._done = n_items, title, noun, 0
        self._begin = self._told = time.monotonic()

    def update(self, n: int = 1) -> None:
        """Count items that are done."""
        self._done += n
        now = time.monotonic()
        if now - self._told >= _A_MINUTE:
            self._told = now
            left = (now - self._begin) * (self._n - self._done) / max(1, self._done)
            print(
                f"{self._title}: {self._done:,} of {self._n:,} {self._noun}s, "
                f"about {left / 60:.0f} min left",
                file=sys.stderr,
                flush=True,
            )

    def __exit__(self, *_: object) -> None:
        return None


_A_MINUTE = 60.0


class CodesBase(KeepsNetwork, TransformerMixin):
    """A transformer whose `fit` has set `_fitted`, `_network`, `backbone_` and `code_shape_`.

    Attributes
    ----------
    backbone_ : BackboneInfo
        Name, source, weights, preprocessing and fingerprint of the network.
    layers_ : list of str
        The layers whose codes come out.
    code_shape_ : tuple of int
        Shape of the code of one item.
    n_features_in_ : int
        Number of columns, where the input is a table.
    feature_names_in_ : ndarray of str
        Their names, where they have names.
    """

    # What the bar of progress calls codes and items.
    _title: ClassVar[str]
    _noun: ClassVar[str]

    _fitted: FittedCodes
    code_shape_: tuple[int, ...]
    # Parameters of the groups that every such estimator has.
    device: Any
    precision: str
    engine: str
    n_jobs: int | None
    cache: Any
    cache_layers: str
    on_error: str
    verbose: int
    backbone: Any

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names such as ``resnet18_layer4_avg_0``: network, layer, pooling, number.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Checked against the names seen in `fit`, otherwise not used.

        Returns
        -------
        names : ndarray of str objects, shape (n_features,)
        """
        check_is_fitted(self, "backbone_")
        if input_features is not None and hasattr(self, "n_features_in_"):
            check_feature_names_in(self, input_features)
        names = [f"{stem}_{i}" for stem, width in self._fitted.columns for i in range(width)]
        return np.asarray(names, dtype=object)

    def list_layers(self) -> list[Any]:
        """The cut points of the network, from the input to the codes, and its output.

        May be called before `fit`; loads the network. The output is the last, ``"output"``; of a
        network that gives several tensors each is there, as ``"output.<name>"``.

        Returns
        -------
        layers : list of Layer
            Each with its name and the shape of its output for one item.
        """
        return self._cut(self._load()).listed()

    def _run_once(self) -> None:
        import torch  # noqa: F401  (shrinks photographs)

        fitted = self._fitted
        frozen = self._frozen().uncached()
        frozen.rows(fitted.reading.made_up(fitted.preparation))
        frozen.warm_up()

    # What kinds of items differ in.

    @abstractmethod
    def _load(self) -> Backbone:
        """The network of the parameters."""

    @abstractmethod
    def _cut(self, network: Backbone) -> Cuttable:
        """Where the network of the parameters can be cut."""

    @abstractmethod
    def _fitted_cut(self, network: Backbone) -> tuple[Cuttable, Preparation]:
        """The same for the network of the fit, and how its items are prepared."""

    def _known_cut(self) -> tuple[Cuttable, Preparation]:
        """As `_fitted_cut`, of a network that need not be loaded yet."""
        return self._fitted_cut(self._load_network())

    @abstractmethod
    def _items(self, X: Any) -> Any:
        """The input as items, read as that of `fit` was."""

    # What a fitted transformer computes.

    def _settings(self, **others: Any) -> ComputeSettings:
        return ComputeSettings(
            device=usable_devices(self.device),
            precision=self.precision,
            engine=self.engine,
            n_jobs=self.n_jobs,
            quantized=self._fitted.quantized if self.precision == "int8" else None,
            **others,
        )

    def _frozen(self) -> FrozenPass:
        """The network of the fit up to its layers, run as the parameters say now."""
        cuts, preparation = self._known_cut()
        return FrozenPass(
            cuts,
            tuple(cuts.resolve(name) for name in self._fitted.layers),
            preparation,
            self._fitted.pooling,
            self._settings(),
            open_store(self.cache),
            self.cache_layers,
        )

    def _fill(self, items: Any, out: Any, n_rows: int) -> list[ItemError]:
        """Set the codes of items, of so many rows in all; give back those that have none."""
        strict = self.on_error == "raise"
        with self._progress(len(items)) as progress:
            errors = self._frozen().for_items(n_rows).fill(
                items, out, stop_at_error=strict, progress=progress
            )
        if errors and strict:
            kept = "the codes computed so far are kept in the cache, if there is one"
            # Of files no more were opened than one knows of; texts are all there.
            told = errors if items.in_memory else errors[:1]
            raise unreadable(told, f"{OR_NAN}; {kept}") from errors[0]
        return errors

    def _progress(self, n_items: int) -> AbstractContextManager[Any]:
        title = f"{self._title} ({self.backbone_.name})"
        return progress_over(n_items, title, self._noun, self.verbose)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "backbone_")


class RowCodes(CodesBase):
    """One whose code of an item is an array of one shape, so that codes are an array."""

    def transform(self, X: Any) -> Any:
        """Compute the codes of items.

        Parameters
        ----------
        X : array, list or table
            As in `fit`.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_features), float32
            ``(n_samples, *code_shape_)`` with ``pooling=None``. A lazy dask array where `X` is a
            dask array, bag, series or data frame; the lengths of its chunks are those of an
            array's, and not known (NaN) of other input.

        Raises
        ------
        ItemError
            If an item cannot be read, unless ``on_error="nan"``.
        """
        check_is_fitted(self, "backbone_")
        if is_lazy(X):
            return transform_lazily(self._as_sent(), X)
        rows, errors = self._codes_of(items := self._items(X))
        if errors:
            warnings.warn(skipped(errors, len(items)), stacklevel=3)
        return rows

    def transform_to(
        self,
        path: str | os.PathLike[str],
        X: Any,
        *,
        dtype: str = "float32",
        overwrite: bool = False,
    ) -> TransformReport:
        """Write the codes of items to a file: of more than memory holds, and resumably.

        Rows are in the file as soon as they are computed. After a kill, an error or a power
        cut the same call continues where it was: no row that is there is computed again. Until
        all are there the file is called ``<path>.partial``. What it is of and which rows are
        done is kept beside it in ``<path>.journal``; without it the finished file is still
        the array, but cannot be added to.

        Parameters
        ----------
        path : str or path
            Ends in ``.npy``; to be read with ``numpy.load(path, mmap_mode="r")``.
        X : array, list or table
            As in `transform`. An item whose content has changed since its row was
            written, or that could not be read then, is computed again.
        dtype : {"float32", "float16"}, default="float32"
            What the numbers are written as.
        overwrite : bool, default=False
            Whether a file may be replaced that is of another network, other parameters or
            other items, instead of an error. One that fits is continued, not
            begun again.

        Returns
        -------
        report : TransformReport
            What is new, known and skipped, and how long it took.

        Raises
        ------
        ItemError
            If an item cannot be read, unless ``on_error="nan"``. Rows so far are kept.
        CodesFileError
            If the file is of something else, another process is writing it, or the disk is
            full.
        """
        check_is_fitted(self, "backbone_")
        began = time.monotonic()
        place, kind = check_target(path, dtype)
        items = self._items(X)
        return write_codes(
            self._frozen().for_items(len(items)),
            items,
            place,
            kind,
            overwrite=overwrite,
            normalize=self._fitted.normalize,
            stop_at_error=self.on_error == "raise",
            progress=self._progress(len(items)),
            began=began,
        )

    # Of lazy input.

    def _items_of_piece(self, X: Any, float_range: Any, *, piece: bool) -> Any:
        """A piece of lazy input as items."""
        return self._fitted.reading.items(X)

    def _lazy_range(self, X: Any) -> Any:
        """What has to be known of all pieces of lazy input to read one; may be lazy itself."""
        return None

    def _as_sent(self) -> Self:
        """The transformer as it is now: later calls of `fit` and `set_params` do not reach it."""
        sent = object.__new__(type(self))
        sent.__dict__.update(vars(self))
        sent.verbose = 0  # a bar for each chunk, of several workers, helps nobody
        if not isinstance(self.backbone, str):
            sent.backbone = self.backbone_.name  # the module travels once, as the fitted network
        return sent

    # What a fitted transformer computes.

    def _codes_of(self, items: Any) -> tuple[np.ndarray, list[ItemError]]:
        """Rows of codes, one for each item, and the items that could not be read."""
        rows = np.empty((len(items), *self.code_shape_), dtype=np.float32)
        errors = self._fill(items, rows, len(items))
        return normalize_rows(rows, self._fitted.normalize), errors
