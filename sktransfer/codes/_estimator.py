"""The transformer."""

from __future__ import annotations

import os
import sys
import time
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from .._parameters import (
    BatchCompute,
    Codes,
    General,
    ImageInput,
    LayerCache,
    Network,
    parameters,
)
from .._sklearn import check_columns, check_feature_names_in, fit_context
from ..compute import ComputeSettings, FrozenPass, normalize_rows, resolve_devices, usable_devices
from ..config import shows_progress
from ..exceptions import ImageError, ImageSkippedWarning, LayerError
from ..inputs import OR_NAN, ImagePreparation, Images, Reading, as_images, skipped, unreadable
from ..networks import (
    NETWORK,
    Backbone,
    BackboneInfo,
    Cuttable,
    KeepsNetwork,
    check_given,
    cuts_of,
    given_of,
    image_preparation,
    load_backbone,
)
from ..store import open_store
from ._dask import is_lazy, look_at, transform_lazily
from ._to_file import TransformReport, check_target, write_codes

__all__ = ["CNNCodes", "FittedCodes"]


# Parameters that decide what the codes are.
_OF_CODES = (*NETWORK, "layer", "pooling", "normalize")


@dataclass(frozen=True)
class FittedCodes:
    """What decides the codes, as it was when `fit` was called."""

    layers: tuple[str, ...]
    columns: tuple[tuple[str, int], ...]
    pooling: str | None
    preparation: ImagePreparation
    normalize: str | None
    reading: Reading
    # What the parameters were, which `partial_fit` needs to be as they were.
    given: tuple[tuple[str, str], ...] = field(default=(), compare=False)


@parameters
class CNNCodes(
    KeepsNetwork,
    TransformerMixin,
    General,
    LayerCache,
    BatchCompute,
    ImageInput,
    Codes,
    Network,
    BaseEstimator,
):
    """Codes of a pretrained convolutional network as features for any estimator.

    A network trained on millions of images is cut before its last layer; what it makes
    of an image there, a row of some hundred to some thousand numbers, describes the
    image well enough that a linear classifier on top is hard to beat when labelled
    images are few [1]_ [2]_. Nothing is learnt in `fit`; labels are not used.

    Attributes
    ----------
    backbone_ : BackboneInfo
        Name, source, weights, preprocessing and fingerprint of the network.
    layers_ : list of str
        The layers whose codes come out.
    image_size_ : tuple of int
        Height and width the network sees.
    code_shape_ : tuple of int
        Shape of the code of one image.
    n_features_in_ : int
        Number of columns, where the input is a table.
    feature_names_in_ : ndarray of str
        Their names, where they have names.

    See Also
    --------
    sktransfer.list_backbones : Names of networks.
    sktransfer.load_image_folder : Images in one folder per class.

    References
    ----------
    .. [1] J. Donahue et al. (2014). DeCAF: A deep convolutional activation feature for
       generic visual recognition. ICML.
    .. [2] A. S. Razavian et al. (2014). CNN features off-the-shelf: an astounding baseline
       for recognition. CVPR workshops.
    .. [3] F. Perronnin, J. Sánchez, T. Mensink (2010). Improving the Fisher kernel for
       large-scale image classification, section 3. ECCV.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn.svm import LinearSVC
    >>> from sktransfer import CNNCodes
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> X, y = load_cifar10_sample(return_X_y=True)
    >>> pipe = make_pipeline(CNNCodes(image_size=96), StandardScaler(), LinearSVC())
    >>> bool(pipe.fit(X[:60], y[:60]).score(X[:60], y[:60]) > 0.9)
    True
    """

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Load the network and settle what the input looks like; no image is computed.

        Parameters
        ----------
        X : array, list or table of images
            Arrays (n, h, w, 3), (n, 3, h, w), (n, h, w), (n, h, w, 1 or 4), uint8 or float;
            lists of arrays of different sizes; paths, bytes or PIL images in a list, array,
            Series or one-column table; torch tensors; flattened rows. Of dask arrays, bags,
            series and data frames only what is needed is computed: nothing where the dtype or
            `value_range` tells what black and white are, the extremes of other floats, the
            first piece of a column or bag of paths.
        y : object, default=None
            Ignored.

        Returns
        -------
        self : object

        Raises
        ------
        InputError
            If `X` is not a collection of images.
        BackboneError
            If the network, its weights or its layer cannot be loaded.
        """
        if is_lazy(X):
            X = look_at(X, image_shape=self.image_shape, value_range=self.value_range)
        images = as_images(X, image_shape=self.image_shape, value_range=self.value_range)
        resolve_devices(self.device)
        open_store(self.cache)
        network = self._load()
        cuts = self._cut(network)
        layers = cuts.several(self.layer)
        if self.pooling is None and len(layers) > 1:
            raise LayerError(
                f"pooling=None gives maps, and those of several layers cannot stand side by side: "
                f"{[layer.name for layer in layers]}. Take one layer or another pooling."
            )
        preparation = self._prepare(network)
        frozen = FrozenPass(cuts, layers, preparation, self.pooling)
        fitted = FittedCodes(
            layers=tuple(layer.name for layer in layers),
            columns=frozen.columns,
            pooling=self.pooling,
            preparation=preparation,
            normalize=self.normalize,
            reading=images.reading,
            given=given_of(self, _OF_CODES),
        )
        check_columns(self, X, reset=True)
        self._fitted = fitted
        self._network = None if network.portable else network
        self.backbone_ = BackboneInfo.of(network, self.weights)
        self.layers_ = list(fitted.layers)
        self.image_size_ = preparation.image_size
        self.code_shape_ = frozen.shape
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Fit on the first piece of the images, and check that further pieces look like it.

        Nothing is learnt from images, so all that a further piece can add is what floats
        are, where there were none before.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.
        y : object, default=None
            Ignored.

        Returns
        -------
        self : object

        Raises
        ------
        InputError
            If `X` is not a collection of images, or of another look than the first piece, or
            if a parameter that decides what the codes are was changed since.
        BackboneError
            As `fit`, in the first call.
        """
        if not hasattr(self, "backbone_"):
            return self.fit(X, y)
        check_given(self, self._fitted.given, "fit")
        if is_lazy(X):
            X = look_at(X, image_shape=self.image_shape, value_range=self.value_range)
        images = self._images(X)
        reading = self._fitted.reading
        if reading.float_range is None:
            reading = replace(reading, float_range=images.float_range)
            self._fitted: FittedCodes = replace(self._fitted, reading=reading)
        return self

    def transform(self, X: Any) -> Any:
        """Compute the codes of images.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_features), float32
            (n_samples, *code_shape_) with ``pooling=None``. A lazy dask array where `X` is a
            dask array, bag, series or data frame; the lengths of its chunks are those of an
            array's, and not known (NaN) of other input.

        Raises
        ------
        ImageError
            If an image cannot be read, unless ``on_error="nan"``.
        """
        check_is_fitted(self, "backbone_")
        if is_lazy(X):
            return transform_lazily(self._as_sent(), X)
        rows, errors = self._codes_of(images := self._images(X))
        if errors:
            warnings.warn(skipped(errors, len(images)), stacklevel=3)
        return rows

    def transform_to(
        self,
        path: str | os.PathLike[str],
        X: Any,
        *,
        dtype: str = "float32",
        overwrite: bool = False,
    ) -> TransformReport:
        """Write the codes of images to a file: of more than memory holds, and resumably.

        Rows are in the file as soon as they are computed. After a kill, an error or a power
        cut the same call continues where it was: no row that is there is computed again. Until
        all are there the file is called ``<path>.partial``. What it is of and which rows are
        done is kept beside it in ``<path>.journal``; without it the finished file is still
        the array, but cannot be added to.

        Parameters
        ----------
        path : str or path
            Ends in ``.npy``; to be read with ``numpy.load(path, mmap_mode="r")``.
        X : array, list or table of images
            As in `transform`. An image whose content has changed since its row was
            written, or that could not be read then, is computed again.
        dtype : {"float32", "float16"}, default="float32"
            What the numbers are written as.
        overwrite : bool, default=False
            Whether a file may be replaced that is of another network, other parameters or
            other images, instead of an error. One that fits is continued, not
            begun again.

        Returns
        -------
        report : TransformReport
            What is new, known and skipped, and how long it took.

        Raises
        ------
        ImageError
            If an image cannot be read, unless ``on_error="nan"``. Rows so far are kept.
        CodesFileError
            If the file is of something else, another process is writing it, or the disk is
            full.
        """
        check_is_fitted(self, "backbone_")
        began = time.monotonic()
        place, kind = check_target(path, dtype)
        images = self._images(X)
        return write_codes(
            self._frozen().for_items(len(images)),
            images,
            place,
            kind,
            overwrite=overwrite,
            normalize=self._fitted.normalize,
            stop_at_error=self.on_error == "raise",
            progress=self._progress(len(images)),
            began=began,
        )

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
            Each with its name and the shape of its output for one image.
        """
        return self._cut(self._load()).listed()

    # What the parameters come to.

    def _load(self) -> Backbone:
        """The network of the parameters."""
        return load_backbone(
            self.backbone,
            weights=self.weights,
            preprocessing=self.preprocessing,
            verbose=self.verbose,
        )

    def _cut(self, network: Backbone) -> Cuttable:
        return cuts_of(network, self._prepare(network).image_size)

    def _prepare(self, network: Backbone) -> ImagePreparation:
        return image_preparation(
            network.preprocessing,
            image_size=self.image_size,
            resize=self.resize,
            crop_pct=self.crop_pct,
        )

    # What a fitted transformer computes.

    def _images(self, X: Any) -> Images:
        """The input as images, read as that of `fit` was."""
        check_columns(self, X, reset=False)
        return self._fitted.reading.images(X)

    def _frozen(self) -> FrozenPass:
        """The network of the fit up to its layers, run as the parameters say now."""
        cuts = cuts_of(self._load_network(), self.image_size_)
        return FrozenPass(
            cuts,
            tuple(cuts.resolve(name) for name in self._fitted.layers),
            self._fitted.preparation,
            self._fitted.pooling,
            ComputeSettings(
                device=usable_devices(self.device),
                precision=self.precision,
                engine=self.engine,
                compile=self.compile,
                batch_size=None if self.batch_size == "auto" else self.batch_size,
                n_jobs=self.n_jobs,
            ),
            open_store(self.cache),
            self.cache_layers,
        )

    def _codes_of(self, images: Images) -> tuple[np.ndarray, list[ImageError]]:
        """Rows of codes, one for each image, and the images that could not be read."""
        frozen = self._frozen().for_items(len(images))
        rows = np.empty((len(images), *self.code_shape_), dtype=np.float32)
        strict = self.on_error == "raise"
        with self._progress(len(images)) as progress:
            errors = frozen.fill(images, rows, stop_at_error=strict, progress=progress)
        if errors and strict:
            kept = "the codes computed so far are kept where there is a cache"
            raise unreadable(errors[:1], f"{OR_NAN}; {kept}") from errors[0]
        return normalize_rows(rows, self._fitted.normalize), errors

    def _progress(self, n_images: int) -> AbstractContextManager[Any]:
        if not shows_progress(self.verbose):
            return nullcontext()
        from tqdm.auto import tqdm

        title = f"CNN codes ({self.backbone_.name})"
        return tqdm(total=n_images, desc=title, unit="image", unit_scale=True, file=sys.stderr)

    def _as_sent(self) -> Self:
        """The transformer as it is now: later calls of `fit` and `set_params` do not reach it."""
        sent = object.__new__(type(self))
        sent.__dict__.update(vars(self))
        sent.verbose = 0  # a bar for each chunk, of several workers, helps nobody
        if not isinstance(self.backbone, str):
            sent.backbone = self.backbone_.name  # the module travels once, as the fitted network
        return sent

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "backbone_")
