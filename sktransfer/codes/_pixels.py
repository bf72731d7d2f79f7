"""A label for every pixel, by any classifier on what several layers say of every place."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from .._parameters import Cache, Compute, DenseInput, General, Network, changed, param, parameters
from .._sklearn import HasMethods, Integral, Interval, check_columns, fit_context
from ..compute import (
    ComputeSettings,
    FrozenPass,
    blas_on_one_core,
    resolve_devices,
    usable_devices,
    worker_pool,
)
from ..exceptions import InputError, LayerError, SktransferWarning, shown
from ..inputs import (
    NO_LABEL,
    ImagePreparation,
    Images,
    Placement,
    Reading,
    Subset,
    as_masks,
    as_whole_images,
    encode_masks,
    fitting_masks,
)
from ..metrics import mean_iou_score
from ..networks import (
    Backbone,
    BackboneInfo,
    Cuttable,
    KeepsNetwork,
    Layer,
    as_map,
    cuts_of,
    dense_preparation,
    load_backbone,
)
from ..store import open_store
from ._base import check_classifies, progress_over, refuse_regressor
from ._linear import LinearScores, default_pixel_estimator
from ._places import codes_at, codes_of_rows, sample_places
from ._texture import texture_of

__all__ = ["PixelClassifier", "largest_scores"]


# Maps that are in memory at a time, and rows that a classifier which is not linear sees at a time.
_CHUNK_BYTES, _CHUNK_ROWS = 128 * 2**20, 2**15
# Images whose texture is computed at a time.
_AHEAD = 4

Texture = Callable[[np.ndarray], np.ndarray]


def _gives_probabilities(pixels: Any) -> bool:
    estimator = getattr(pixels, "estimator_", pixels.estimator)
    return estimator is None or hasattr(estimator, "predict_proba")


def _is_linear(pixels: Any) -> bool:
    if hasattr(pixels, "_scores"):
        return isinstance(pixels._scores, LinearScores)
    return pixels.estimator is None or hasattr(pixels.estimator, "decision_function")


@parameters
class PixelClassifier(
    MetaEstimatorMixin, KeepsNetwork, General, Cache, Compute, DenseInput, Network, BaseEstimator
):
    """Masks from a few labelled images, by any classifier on codes of pixels.

    The maps of several layers of a pretrained network, enlarged and side by side, are the code of
    every pixel, a hypercolumn [1]_. Some labelled pixels of each image are the rows of a table, on
    which any classifier of scikit-learn is fitted; what it says of all pixels of an image is its
    mask. Nothing else is trained: of one to twenty labelled images that takes seconds, and no
    network that is trained on them was found to be better. Scribbles do as well as whole masks.

    The maps of an image are computed once, whatever folds and candidates of a search it is in.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    estimator_ : classifier
        Fitted on the codes of the labelled pixels that were drawn.
    layers_ : list of str
        The layers whose maps are taken.
    image_size_ : tuple of int
        Height and width that the network sees.
    n_features_in_ : int
        Number of columns, where the input is a table.
    feature_names_in_ : ndarray of str
        Their names, where they have names.

    See Also
    --------
    sktransfer.metrics.mean_iou_score : What `score` gives.
    CNNCodes.list_layers : Names of layers.

    Notes
    -----
    A classifier that is linear, also behind scalers, PCA and other affine steps, is applied to each
    map at its own size; the scores are enlarged and added, which gives the same numbers in a
    thirtieth of the time. Others see every pixel as a row.

    What is said of pixels is said on the grid of `image_size_`, and brought to the size of each
    image by bilinear interpolation: of scores or probabilities, before the largest is taken.

    References
    ----------
    .. [1] B. Hariharan, P. Arbeláez, R. Girshick, J. Malik (2015). Hypercolumns for object
       segmentation and fine-grained localization. CVPR.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer import PixelClassifier
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> photos = load_cifar10_sample()
    >>> animals = [2, 3, 4, 5, 6, 7]

    Four in a square, and a mask that says what each pixel is of:

    >>> X = photos.data[:160].reshape(40, 2, 2, 32, 32, 3).swapaxes(2, 3).reshape(40, 64, 64, 3)
    >>> y = np.where(np.isin(photos.target[:160], animals), "animal", "vehicle")
    >>> y = y.reshape(40, 2, 2).repeat(32, axis=1).repeat(32, axis=2)
    >>> pixels = PixelClassifier(image_size=128, random_state=0).fit(X[:30], y[:30])
    >>> pixels.predict(X[30:]).shape
    (10, 64, 64)
    >>> bool(pixels.score(X[30:], y[30:]) > 0.6)
    True
    """

    estimator: Any = param(
        default=None, valid=[HasMethods(["fit"]), None], kw_only=False,
        type="classifier", doc="""
        What is fitted on the codes of pixels; a clone is. None is a StandardScaler and
        ``LogisticRegression(C=1e-2, tol=1e-3)``, which is hard to beat on few images.""")
    backbone: Any = changed(Network, "backbone", default="efficientnet_lite0")
    layers: Sequence[str | int] | str | int | None = param(
        default=None, valid=[str, Integral, list, tuple, None],
        type="list of str or int, or None", doc="""
        Layers whose maps are taken, by the names or numbers of :meth:`CNNCodes.list_layers`. None
        is the last layer of each resolution; where all have one, as in vision transformers, four,
        evenly spaced.""")
    texture: bool | Texture = param(
        default=False, valid=["boolean", callable], type="bool or callable", doc="""
        Whether colours, edges and ridges at several scales stand beside the codes: for images where
        all is in fine texture, such as those of microscopes. A callable gets an image as the
        network sees it, without bars, uint8 (h, w, 3), and gives features (h, w, n_features) of its
        pixels.""")
    pixels_per_image: int = param(
        default=2000, valid=[Interval(Integral, 1, None, closed="left")], type="int", doc="""
        Labelled pixels of each image that are drawn, with equal chances, and of each class in it at
        least one; all where fewer are labelled.""")
    unlabeled: Any = param(default=None, valid="no_validation", type="label or None", doc="""
        The label of pixels that nobody labelled, such as 0 beside scribbles, which count neither in
        `fit` nor in `score`. NaN always is. None is no label.""")
    random_state: Any = param(
        default=None, valid=["random_state"], type="int, RandomState or None", doc="""
        Draws pixels.""")

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any) -> Self:
        """Compute the maps of images, draw labelled pixels, and fit the classifier on these.

        Parameters
        ----------
        X : array, list or table of images
            As :class:`CNNCodes` takes them, but for flattened rows.
        y : array of shape (n_images, height, width), list, Series or one-column table
            Masks, one for each image and as large as it is upright: arrays (height, width), paths,
            bytes or PIL images of PNG, TIFF, BMP or GIF files, of palettes the number of the
            colour. Labels are whole numbers, bool or str, any that are there.

        Returns
        -------
        self : object

        Raises
        ------
        InputError
            If a mask cannot be read or does not fit its image, which is said with its path; or if
            there are not two labels.
        ImageError
            If an image cannot be read; says which, and its path.
        LayerError
            If a layer does not exist or gives no map.
        """
        is_own = self.estimator is None
        estimator = default_pixel_estimator() if is_own else clone(self.estimator)
        refuse_regressor(estimator)
        table = self._table(X, y)
        work = table.codes.size * len(np.unique(table.labels))
        with blas_on_one_core(work if is_own else np.inf):
            estimator.fit(table.codes, table.labels)
        check_classifies(estimator)
        scores = LinearScores.of(estimator, table.codes) or _Rows.of(estimator, table.codes)
        check_columns(self, X, reset=True)
        self._fitted: _FittedPixels = table.fitted
        self._network = None if table.network.portable else table.network
        self._scores: LinearScores | _Rows = scores
        self.backbone_ = BackboneInfo.of(table.network, self.weights)
        self.estimator_, self.classes_ = estimator, estimator.classes_
        self.layers_ = list(table.fitted.layers)
        self.image_size_ = table.fitted.preparation.image_size
        return self

    def pixel_codes(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Make the table that `fit` would fit a classifier on.

        It hangs on the parameters alone, whether the estimator is fitted or not. Name `image_size`
        to have codes of different images that may be compared.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.
        y : array, list, Series or one-column table
            Masks, as in `fit`.

        Returns
        -------
        codes : ndarray of shape (n_pixels, n_features), float32
            Of the labelled pixels that were drawn: the channels of all layers, then texture.
        labels : ndarray of shape (n_pixels,)
        groups : ndarray of shape (n_pixels,), int
            Number of the image of each pixel, which GroupKFold needs to keep those of an image in
            one fold.
        """
        self._validate_params()
        table = self._table(X, y)
        return table.codes, table.labels, table.groups

    def predict(self, X: Any) -> np.ndarray:
        """Predict the labels of all pixels.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.

        Returns
        -------
        masks : ndarray of shape (n_images, height, width)
            Labels of `y`. Where images differ in size, an array (n_images,) of objects, each an
            array (height, width).

        Raises
        ------
        ImageError
            If an image cannot be read; says which, and its path.
        """
        check_is_fitted(self, "estimator_")

        def labels_of(scores: torch.Tensor, placement: Placement) -> np.ndarray:
            return self.classes_[largest_scores(scores, placement)]

        return self._answers(X, self._scores, labels_of, self.classes_.dtype)

    @available_if(_gives_probabilities)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probabilities of the classes of all pixels.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.

        Returns
        -------
        probabilities : ndarray of shape (n_images, height, width, n_classes), float32
            In the order of `classes_`. Where images differ in size, an array (n_images,) of
            objects, each an array (height, width, n_classes).

        Raises
        ------
        ImageError
            If an image cannot be read; says which, and its path.
        """
        check_is_fitted(self, "estimator_")
        found = self._scores.for_probabilities()

        def shares_of(scores: torch.Tensor, placement: Placement) -> np.ndarray:
            rows = placement.scores(scores).flatten(1).T.numpy()
            return found.probabilities(rows).reshape(*placement.size, -1)

        return self._answers(X, found, shares_of, np.float32, len(self.classes_))

    @available_if(_is_linear)
    def decision_function(self, X: Any) -> np.ndarray:
        """Tell the scores of a linear classifier for all pixels.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.

        Returns
        -------
        scores : ndarray of shape (n_images, height, width, n_classes), float32
            Of two classes (n_images, height, width), of the second class. Where images differ in
            size, an array (n_images,) of objects, each the scores of an image.

        Raises
        ------
        ImageError
            If an image cannot be read; says which, and its path.
        """
        check_is_fitted(self, "estimator_")
        n_scores = () if len(self.classes_) == 2 else (len(self.classes_),)

        def scores_of(scores: torch.Tensor, placement: Placement) -> np.ndarray:
            own = placement.scores(scores).permute(1, 2, 0).numpy()
            return own if n_scores else own[:, :, 0]

        return self._answers(X, self._scores, scores_of, np.float32, *n_scores)

    def score(self, X: Any, y: Any) -> float:
        """Mean intersection over union of the predicted masks over the classes.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.
        y : array, list, Series or one-column table
            Masks, as in `fit`.

        Returns
        -------
        float
            :func:`~sktransfer.metrics.mean_iou_score` of all labelled pixels together.
        """
        check_is_fitted(self, "estimator_")
        masks = fitting_masks(y, self._items(X), self.classes_)
        return float(mean_iou_score(masks, self.predict(X), unlabeled=self.unlabeled))

    def set_params(self, **params: Any) -> Self:
        """Set parameters of this estimator, or of `estimator` by ``estimator__…``.

        Parameters
        ----------
        **params : dict
            Values by name.

        Returns
        -------
        self : object

        Raises
        ------
        InputError
            If there is no `estimator` that could have such parameters.
        """
        nested = [name for name in params if name.startswith("estimator__")]
        if nested and params.get("estimator", self.estimator) is None:
            raise InputError(
                f"{nested[0]} needs an estimator that is written out, got estimator=None. Write "
                "PixelClassifier(make_pipeline(StandardScaler(), LogisticRegression(C=1e-2))), and "
                "estimator__logisticregression__C is its C."
            )
        return super().set_params(**params)

    def _run_once(self) -> None:
        fitted = self._fitted
        frozen = self._fitted_maps().frozen.uncached()
        frozen.rows(fitted.reading.made_up(fitted.preparation))
        frozen.warm_up()

    # Of `fit`.

    def _table(self, X: Any, y: Any) -> _Table:
        """What the parameters make of labelled images; the estimator stays as it is."""
        images = as_whole_images(X, value_range=self.value_range)
        masks = as_masks(y, len(images))
        resolve_devices(self.device)
        network = load_backbone(
            self.backbone,
            weights=self.weights,
            preprocessing=self.preprocessing,
            verbose=self.verbose,
        )
        preparation = dense_preparation(
            network, images, image_size=self.image_size, resize=self.resize
        )
        cuts = cuts_of(network, preparation.image_size)
        layers = _layers_with_maps(cuts, self.layers)
        texture = texture_of if self.texture is True else self.texture or None
        maps = self._maps(cuts, layers, preparation, texture)
        classes, numbers = encode_masks(masks, images, preparation, unlabeled=self.unlabeled)
        _check_classes(classes, numbers, self.unlabeled)
        rng = check_random_state(self.random_state)
        places = sample_places(numbers, self.pixels_per_image, rng)
        n_labelled = sum(len(some) > 0 for some in places)
        with progress_over(n_labelled, "Pixels", "image", self.verbose) as progress:
            codes = maps.at(images, places, progress)
        fitted = _FittedPixels(
            layers=tuple(one.name for one in layers),
            preparation=preparation,
            reading=replace(images.reading, bright=images.bright),  # now that files were decoded
            texture=texture,
            n_texture=codes.shape[1] - sum(one.n_channels for one in layers),
        )
        groups = np.repeat(np.arange(len(places)), [len(some) for some in places])
        labels = classes[numbers.reshape(len(numbers), -1)[groups, np.concatenate(places)]]
        return _Table(network, fitted, codes, labels, groups)

    def _maps(
        self,
        cuts: Cuttable,
        layers: tuple[Layer, ...],
        preparation: ImagePreparation,
        texture: Texture | None,
        n_texture: int | None = None,
    ) -> _Maps:
        """Layers of a network, run as the parameters say now."""
        settings = ComputeSettings(
            device=usable_devices(self.device),
            precision=self.precision,
            engine=self.engine,
            n_jobs=self.n_jobs,
        )
        frozen = FrozenPass(cuts, layers, preparation, None, settings, open_store(self.cache))
        return _Maps(frozen, preparation, texture, n_texture)

    # Of what is fitted.

    def _items(self, X: Any) -> Images:
        check_columns(self, X, reset=False)
        return self._fitted.reading.items(X)

    def _fitted_maps(self) -> _Maps:
        fitted = self._fitted
        cuts = cuts_of(self._load_network(), self.image_size_)
        layers = tuple(cuts.resolve(name) for name in fitted.layers)
        return self._maps(cuts, layers, fitted.preparation, fitted.texture, fitted.n_texture)

    def _answers(
        self,
        X: Any,
        scores: LinearScores | _Rows,
        answer: Callable[[torch.Tensor, Placement], np.ndarray],
        dtype: Any,
        *n_numbers: int,
    ) -> np.ndarray:
        """What an answer makes of the scores of each image, at the size of the image."""
        images, maps = self._items(X), self._fitted_maps()
        to = self._fitted.preparation
        placements = [to.placement(images.open(index).size()) for index in range(len(images))]
        sizes = {one.size for one in placements}
        out = np.empty(len(images), object)
        if len(sizes) == 1:
            out = np.empty((len(images), *sizes.pop(), *n_numbers), dtype)
        with progress_over(len(images), "Pixels", "image", self.verbose) as progress:
            for index, own in maps.each(images, range(len(images))):
                seen = scores.on_maps(own, self.image_size_)
                out[index] = answer(seen, placements[index])
                if progress is not None:
                    progress.update()
        return out

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.target_tags.required = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimator_")


@dataclass(frozen=True)
class _FittedPixels:
    """What decides the codes of pixels, as it was when `fit` was called."""

    layers: tuple[str, ...]
    preparation: ImagePreparation
    reading: Reading
    texture: Texture | None
    n_texture: int


@dataclass(frozen=True, eq=False)
class _Table:
    """Labelled pixels, drawn from all images, and what their codes are made with."""

    network: Backbone
    fitted: _FittedPixels
    codes: np.ndarray
    labels: np.ndarray
    groups: np.ndarray


@dataclass(frozen=True, eq=False)
class _Maps:
    """Maps of several layers, and of texture, for one image after the other.

    Attributes
    ----------
    frozen : FrozenPass
    preparation : ImagePreparation
    texture : callable or None
    n_texture : int or None
        How many features it has to give; None is as many as of the first image.
    """

    frozen: FrozenPass
    preparation: ImagePreparation
    texture: Texture | None
    n_texture: int | None = None

    def at(
        self, images: Images, places: Sequence[np.ndarray], progress: Any = None
    ) -> np.ndarray:
        """Codes (n_pixels, n_features) of places of each image."""
        stops = np.cumsum([0, *map(len, places)])
        codes: Any = None
        for index, maps in self.each(images, np.flatnonzero(np.diff(stops))):
            own = codes_at(maps, places[index], self.preparation.image_size)
            if codes is None:
                codes = np.empty((stops[-1], own.shape[1]), np.float32)
            codes[stops[index] : stops[index + 1]] = own
            if progress is not None:
                progress.update()
        return codes

    def each(
        self, images: Images, numbers: Sequence[int] | np.ndarray
    ) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Number and maps (channels, height, width) of some images, a few in memory at a time."""
        size = 4 * sum(int(np.prod(shape)) for shape in self.frozen.shapes)
        step = max(1, _CHUNK_BYTES // size)
        textures = self._textures(images, numbers)
        for start in range(0, len(numbers), step):
            some = [int(number) for number in numbers[start : start + step]]
            rows = self.frozen.rows(Subset(images, some))
            rows = rows if isinstance(rows, list) else [rows]
            for place, number in enumerate(some):
                maps = [
                    as_map(torch.from_numpy(one[place][None]), layer)[0].numpy()
                    for one, layer in zip(rows, self.frozen.layers, strict=True)
                ]
                yield number, [*maps, *next(textures)]

    def _textures(
        self, images: Images, numbers: Sequence[int] | np.ndarray
    ) -> Iterator[list[np.ndarray]]:
        """Maps of texture of some images, a few at a time, each computed on one core."""
        if (make := self.texture) is None:
            yield from ([] for _ in numbers)
            return

        def one(number: int) -> np.ndarray:
            return self._texture_of(images.open(int(number)), make)

        n_features = self.n_texture
        each = map if self.frozen.settings.n_jobs == 1 else worker_pool().map
        for start in range(0, len(numbers), _AHEAD):
            some = numbers[start : start + _AHEAD]
            for number, found in zip(some, each(one, some), strict=True):
                n_features = len(found) if n_features is None else n_features
                if len(found) != n_features:
                    raise InputError(
                        "texture must give as many features of every image, but of "
                        f"{images.label(int(number))} it gives {len(found)}, of others "
                        f"{n_features}."
                    )
                yield [found]

    def _texture_of(self, opened: Any, make: Texture) -> np.ndarray:
        """Features (n_features, height, width) of what the network sees of an image."""
        top, left, height, width = self.preparation.placement(opened.size()).box
        inside = slice(top, top + height), slice(left, left + width)
        found = np.asarray(make(self.preparation(opened)[inside]))
        if found.ndim != 3 or found.shape[:2] != (height, width):
            raise InputError(
                f"texture must give features ({height}, {width}, n_features) of the pixels of "
                f"{opened.label}, as the network sees it, got an array of shape {found.shape}."
            )
        if not np.isfinite(found).all():
            raise InputError(
                f"texture must give finite numbers, but of {opened.label} it gives NaN or infinity."
            )
        seen = np.zeros((found.shape[2], *self.preparation.image_size), np.float32)
        seen[:, *inside] = np.moveaxis(found, 2, 0)
        return seen


@dataclass(frozen=True, eq=False)
class _Rows:
    """A classifier that is not linear, which sees every pixel as a row.

    Attributes
    ----------
    estimator : classifier
        Fitted.
    votes : bool
        Whether a score is 1 of the class that it predicts and 0 of others, as it has to be of
        classifiers that give no probabilities, or do not predict the most probable class.
    """

    estimator: Any
    votes: bool

    @classmethod
    def of(cls, estimator: Any, rows: np.ndarray) -> Self:
        """Look at some rows for whether the most probable class is what is predicted."""
        if not hasattr(estimator, "predict_proba"):
            return cls(estimator, votes=True)
        some = rows[:: -(-len(rows) // 1000)]
        likely = estimator.classes_[np.asarray(estimator.predict_proba(some)).argmax(axis=1)]
        return cls(estimator, votes=not np.array_equal(likely, estimator.predict(some)))

    def for_probabilities(self) -> Self:
        """The same with probabilities as scores."""
        return replace(self, votes=False)

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities, from scores that are."""
        return scores

    def on_maps(self, maps: Sequence[np.ndarray], grid: tuple[int, int]) -> torch.Tensor:
        """Scores (n_classes, *grid) of all places of one image."""
        classes = self.estimator.classes_
        scores = np.empty((len(classes), *grid), np.float32)
        step = max(1, _CHUNK_ROWS // grid[1])
        for start in range(0, grid[0], step):
            rows = np.arange(start, min(start + step, grid[0]))
            codes = codes_of_rows(maps, rows, grid)
            if self.votes:
                found = self.estimator.predict(codes)[:, None] == classes
            else:
                found = self.estimator.predict_proba(codes)
            scores[:, rows] = np.asarray(found, np.float32).T.reshape(len(classes), -1, grid[1])
        return torch.from_numpy(scores)


def largest_scores(scores: torch.Tensor, placement: Placement) -> np.ndarray:
    """Numbers of the classes with the largest scores, for the pixels of an image.

    Class by class, so that memory does not grow with their number.
    """
    best = placement.scores(scores[:1])[0]
    if len(scores) == 1:  # of two classes, that of the second
        return (best > 0).numpy().astype(np.intp)
    numbers = np.zeros(placement.size, np.int16)
    for number in range(1, len(scores)):
        own = placement.scores(scores[number : number + 1])[0]
        numbers[(own > best).numpy()] = number
        best = torch.maximum(best, own)
    return numbers


def _layers_with_maps(cuts: Cuttable, layers: Any) -> tuple[Layer, ...]:
    found = tuple(cuts.taps()) if layers is None else cuts.several(layers)
    for one in found:
        if one.grid is None:
            raise LayerError(
                f"layers= must name layers that give a map of the image, but {one.name!r} of "
                f"{cuts.name} gives {one.shape}. Take None, which is "
                f"{[tap.name for tap in cuts.taps()]}."
            )
    return found


def _check_classes(classes: np.ndarray, numbers: np.ndarray, unlabeled: Any) -> None:
    """There are two labels at least, and the network sees them."""
    seen = np.unique(numbers[numbers != NO_LABEL])
    if len(seen) < 2:
        only = f"only {shown(classes[seen].tolist())}" if len(seen) else "none"
        but = "" if unlabeled is None else f" besides unlabeled={unlabeled!r}"
        raise InputError(f"y must hold pixels of at least two labels{but}, got {only}.")
    if lost := sorted(set(range(len(classes))) - set(seen.tolist())):
        warnings.warn(
            f"Pixels of the label(s) {shown(classes[lost].tolist())} are so few that none is left "
            f"at the network's input size of {numbers.shape[1]}×{numbers.shape[2]} pixels "
            "(height × width). Such labels are dropped; set a larger image_size. If the masks "
            "should not have these labels, they were resized with interpolation or saved as JPEG "
            "files, or images and masks are interchanged.",
            SktransferWarning,
            stacklevel=4,
        )
