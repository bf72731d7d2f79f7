"""What codes say of images: which are alike, and where each lies among all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.multiclass import type_of_target

from .._optional import import_optional, import_pyplot
from ..exceptions import InputError, shown
from ..inputs import Images
from ._examples import (
    Names,
    cells,
    codes_of,
    colours_of,
    draw,
    first_of,
    items_of,
    name_of_label,
    opened_images,
    thumbnail,
    title_of,
)

__all__ = ["EmbeddingMapDisplay", "NeighboursDisplay"]


class NeighboursDisplay:
    """Images, each with those of another set that are most like it, by their codes.

    Make it with :meth:`from_estimator` or :meth:`from_codes`.

    Parameters
    ----------
    images : list of ndarray of shape (height, width, 3), uint8
        What is asked about, small; None is one that cannot be read.
    neighbours : list of list of ndarray
        The most alike of each, the nearest first.
    indices : ndarray of int, shape (n_images, n_neighbors)
        Which these are in the other set.
    distances : ndarray of shape (n_images, n_neighbors)
        How far away they are.
    labels : list of list or None, default=None
        Labels of the neighbours.
    display_labels : dict or sequence, default=None
        Names of labels.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
    axes_ : ndarray of matplotlib.axes.Axes, shape (n_images, 1 + n_neighbors)
        A row for each image, which comes first.

    See Also
    --------
    sklearn.neighbors.NearestNeighbors : What finds them.

    Notes
    -----
    Where an estimator is wrong of an image, its neighbours in the training set often tell why; and
    what is in the training set twice, or in both sets, is found at distance 0.

    Examples
    --------
    >>> from sktransfer import CNNCodes
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> from sktransfer.inspection import NeighboursDisplay
    >>> X, y = load_cifar10_sample(return_X_y=True)
    >>> codes = CNNCodes(image_size=96).fit(X)
    >>> display = NeighboursDisplay.from_estimator(codes, X[:2], X[2:], y[2:], n_neighbors=3)
    >>> display.indices.shape, display.axes_.shape
    ((2, 3), (2, 4))
    """

    def __init__(
        self,
        *,
        images: Sequence[np.ndarray | None],
        neighbours: Sequence[Sequence[np.ndarray | None]],
        indices: np.ndarray,
        distances: np.ndarray,
        labels: Sequence[Sequence[Any]] | None = None,
        display_labels: Names = None,
    ):
        self.images, self.neighbours, self.indices = images, neighbours, indices
        self.distances, self.labels, self.display_labels = distances, labels, display_labels

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        X_train: Any,
        y_train: Any = None,
        *,
        n_images: int = 8,
        value_range: Any = "auto",
        **options: Any,
    ) -> NeighboursDisplay:
        """Compute codes, and draw each image with its nearest.

        Parameters
        ----------
        estimator : object
            Fitted, with `transform`: CNNCodes, a fine-tuned estimator, or a pipeline, whose last
            step is left out where it has none.
        X : images
            What is asked about.
        X_train : images
            Where the nearest are looked for.
        y_train : array-like of shape (n_train,), default=None
            Their labels.
        n_images : int, default=8
            How many of `X` are asked about at most: the first.
        value_range : (low, high) or "auto", default="auto"
            What black and white are in arrays, where the estimator does not know itself.
        **options : dict
            `n_neighbors`, `metric`, `axes` and `display_labels` of :meth:`from_codes`.

        Returns
        -------
        display : NeighboursDisplay
        """
        X = first_of(X, n_images)
        asked, known = (items_of(estimator, one, value_range) for one in (X, X_train))
        codes, codes_train = (codes_of(estimator, one) for one in (X, X_train))
        return cls._of(asked, codes, known, codes_train, y_train, **options)

    @classmethod
    def from_codes(
        cls,
        X: Any,
        codes: Any,
        X_train: Any,
        codes_train: Any,
        y_train: Any = None,
        *,
        n_images: int = 8,
        n_neighbors: int = 5,
        metric: str = "cosine",
        value_range: Any = "auto",
        axes: Any = None,
        display_labels: Names = None,
    ) -> NeighboursDisplay:
        """Draw each image with its nearest.

        Parameters
        ----------
        X, X_train : array, list or table of images
            What is asked about, and where the nearest are looked for.
        codes, codes_train : array-like of shape (n_images, n_columns)
            Their codes.
        y_train : array-like of shape (n_train,), default=None
            Labels of the latter.
        n_images : int, default=8
            How many of `X` are asked about at most: the first.
        n_neighbors : int, default=5
            How many are shown for each image.
        metric : str, default="cosine"
            What is near, as for :class:`sklearn.neighbors.NearestNeighbors`.
        value_range : (low, high) or "auto", default="auto"
            What black and white are in arrays, as for :class:`~sktransfer.CNNCodes`.
        axes : array of matplotlib Axes, default=None
            1 + `n_neighbors` for each image; None makes a figure.
        display_labels : dict or sequence, default=None
            Names of labels, by label or by number.

        Returns
        -------
        display : NeighboursDisplay

        Raises
        ------
        InputError
            If there are not as many codes or labels as images.
        """
        asked, known = np.asarray(codes), np.asarray(codes_train)
        opened_images(X, len(asked), value_range)
        X, asked = first_of(X, n_images), asked[:n_images]
        return cls._of(
            opened_images(X, len(asked), value_range), asked,
            opened_images(X_train, len(known), value_range), known, y_train,
            n_neighbors=n_neighbors, metric=metric, axes=axes, display_labels=display_labels,
        )  # fmt: skip

    @classmethod
    def _of(
        cls, asked: Images, codes: np.ndarray, known: Images, codes_train: np.ndarray, y: Any, *,
        n_neighbors: int = 5, metric: str = "cosine", axes: Any = None,
        display_labels: Names = None,
    ) -> NeighboursDisplay:  # fmt: skip
        labels = None if y is None else _labels(y, len(known))
        _check_finite(codes, "X")
        _check_finite(codes_train, "X_train")
        near = NearestNeighbors(n_neighbors=min(n_neighbors, len(known)), metric=metric)
        distances, indices = near.fit(codes_train).kneighbors(codes)
        return cls(
            images=[thumbnail(asked, one) for one in range(len(asked))],
            neighbours=[[thumbnail(known, int(one)) for one in row] for row in indices],
            indices=indices,
            distances=distances,
            labels=None if labels is None else [[labels[one] for one in row] for row in indices],
            display_labels=display_labels,
        ).plot(axes)

    def plot(self, axes: Any = None) -> NeighboursDisplay:
        """Draw the images.

        Parameters
        ----------
        axes : array of matplotlib Axes, default=None
            1 + `n_neighbors` for each image; None makes a figure.

        Returns
        -------
        self : object

        Raises
        ------
        ImportError
            If matplotlib is missing (the extra ``plot``).
        ValueError
            If there are not as many axes.
        """
        n, columns = len(self.images), 1 + self.indices.shape[1]
        what = type(self).__name__
        found = cells(axes, n * columns, what, columns=columns, size=(1.8, 2.2))
        self.axes_ = found.reshape(n, columns)
        self.figure_ = self.axes_[0, 0].figure
        title_of(self.figure_, axes, "Images and their nearest neighbours")
        for row in range(n):
            draw(self.axes_[row, 0], self.images[row], f"image {row}", weight="bold")
            for place, ax in enumerate(self.axes_[row, 1:]):
                away = f"{self.distances[row, place]:.2f} away"
                title = f"image {self.indices[row, place]}, {away}"
                if self.labels is not None:
                    label = name_of_label(self.labels[row][place], self.display_labels)
                    title = f"{label}\n{title}"
                draw(ax, self.neighbours[row][place], title)
        return self


METHODS = ("pca", "tsne", "umap")
_AXES = {"pca": "principal component", "tsne": "t-SNE", "umap": "UMAP"}
# Before t-SNE and UMAP: they take long with many columns, and see the same with few.
_COLUMNS = 50


class EmbeddingMapDisplay:
    """A map on which images lie close to those that are like them, by their codes.

    Make it with :meth:`from_estimator` or :meth:`from_codes`.

    Parameters
    ----------
    positions : ndarray of shape (n_items, 2)
        Where each lies.
    labels : list or ndarray or None, default=None
        Classes, or numbers.
    thumbnails : dict of int to ndarray
        Small images of some of the items.
    method : {"pca", "tsne", "umap"}
        How the map was made.
    display_labels : dict or sequence, default=None
        Names of labels.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
    ax_ : matplotlib.axes.Axes

    See Also
    --------
    ImageGridDisplay : Some images of each class.

    Notes
    -----
    Of the maps of t-SNE and UMAP only who is near whom means something, not how far apart clusters
    are, nor how large. PCA keeps distances as well as two numbers can.

    References
    ----------
    .. [1] L. van der Maaten, G. Hinton (2008). Visualizing data using t-SNE. JMLR 9.
    .. [2] L. McInnes, J. Healy, J. Melville (2018). UMAP: Uniform manifold approximation and
       projection for dimension reduction. arXiv:1802.03426.

    Examples
    --------
    >>> from sktransfer import CNNCodes
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> from sktransfer.inspection import EmbeddingMapDisplay
    >>> X, y = load_cifar10_sample(return_X_y=True)
    >>> codes = CNNCodes(image_size=96).fit(X)
    >>> display = EmbeddingMapDisplay.from_estimator(codes, X[:60], y[:60], method="pca")
    >>> display.positions.shape
    (60, 2)
    """

    def __init__(
        self,
        *,
        positions: np.ndarray,
        labels: Any = None,
        thumbnails: Mapping[int, np.ndarray] | None = None,
        method: str,
        display_labels: Names = None,
    ):
        self.positions, self.labels, self.method = positions, labels, method
        self.thumbnails, self.display_labels = thumbnails or {}, display_labels

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any = None, *, value_range: Any = "auto", **options: Any
    ) -> EmbeddingMapDisplay:
        """Compute codes, and draw their map.

        Parameters
        ----------
        estimator : object
            Fitted, with `transform`: CNNCodes, TextCodes, a fine-tuned estimator, or a pipeline,
            whose last step is left out where it has none.
        X : images or texts
            As `estimator` takes them; of texts there are dots alone.
        y : array-like of shape (n_items,), default=None
            Labels or numbers that give colours.
        value_range : (low, high) or "auto", default="auto"
            What black and white are in arrays, where the estimator does not know itself.
        **options : dict
            `method`, `n_thumbnails`, `random_state`, `ax` and `display_labels` of
            :meth:`from_codes`.

        Returns
        -------
        display : EmbeddingMapDisplay
        """
        try:
            images: Images | None = items_of(estimator, X, value_range)
        except InputError:
            images = None
        return cls._of(codes_of(estimator, X), y, images, **options)

    @classmethod
    def from_codes(
        cls,
        codes: Any,
        y: Any = None,
        X: Any = None,
        *,
        method: str = "tsne",
        n_thumbnails: int = 60,
        random_state: Any = 0,
        value_range: Any = "auto",
        ax: Any = None,
        display_labels: Names = None,
    ) -> EmbeddingMapDisplay:
        """Draw the map of codes.

        Parameters
        ----------
        codes : array-like of shape (n_items, n_columns)
            Of images, or of anything.
        y : array-like of shape (n_items,), default=None
            Labels or numbers that give colours.
        X : array, list or table of images, default=None
            The images themselves; None draws dots alone.
        method : {"tsne", "pca", "umap"}, default="tsne"
            t-SNE and UMAP (the extra ``umap``) keep neighbours together, PCA distances.
            The first two start from 50 principal components.
        n_thumbnails : int, default=60
            How many images are drawn in small at most; they are chosen so that they do not cover
            each other. 0 is dots alone.
        random_state : int, RandomState or None, default=0
            For "tsne" and "umap".
        value_range : (low, high) or "auto", default="auto"
            What black and white are in arrays, as for :class:`~sktransfer.CNNCodes`.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure.
        display_labels : dict or sequence, default=None
            Names of labels, by label or by number.

        Returns
        -------
        display : EmbeddingMapDisplay

        Raises
        ------
        InputError
            If there are not as many labels or images as codes, fewer than three, or codes that are
            not finite.
        ImportError
            If UMAP is asked for and not installed.
        """
        found = np.asarray(codes)
        images = None if X is None else opened_images(X, len(found), value_range)
        return cls._of(
            found, y, images, method=method, n_thumbnails=n_thumbnails, random_state=random_state,
            ax=ax, display_labels=display_labels,
        )  # fmt: skip

    @classmethod
    def _of(
        cls, codes: np.ndarray, y: Any, images: Images | None, *, method: str = "tsne",
        n_thumbnails: int = 60, random_state: Any = 0, ax: Any = None,
        display_labels: Names = None,
    ) -> EmbeddingMapDisplay:  # fmt: skip
        if method not in METHODS:
            raise ValueError(f"method= must be one of {METHODS}, got {shown(repr(method))}.")
        codes = codes.reshape(len(codes), -1)
        _check_finite(codes, "X")
        if len(codes) < 3:
            raise InputError(f"A map needs at least 3 items, got {len(codes)}.")
        labels = None if y is None else _labels(y, len(codes))
        positions = _positions(codes, method, random_state)
        small = {}
        if images is not None and n_thumbnails:
            for one in _apart(positions, n_thumbnails):
                picture = thumbnail(images, one)
                if picture is not None:
                    small[one] = picture
        return cls(
            positions=positions, labels=labels, thumbnails=small, method=method,
            display_labels=display_labels,
        ).plot(ax)  # fmt: skip

    def plot(self, ax: Any = None, *, zoom: float = 0.16) -> EmbeddingMapDisplay:
        """Draw the map.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a figure.
        zoom : float, default=0.16
            Size of the small images; 1 is 224 pixels.

        Returns
        -------
        self : object

        Raises
        ------
        ImportError
            If matplotlib is missing (the extra ``plot``).
        """
        what = type(self).__name__
        if ax is None:
            ax = import_pyplot(what).subplots(figsize=(8, 7), layout="constrained")[1]
        colours = self._draw_dots(ax, what)
        boxes = import_optional("matplotlib.offsetbox", what, "plot")
        for index, image in self.thumbnails.items():
            own = boxes.OffsetImage(image, zoom=zoom * 224 / max(image.shape[:2]))
            frame = {"edgecolor": colours[index], "linewidth": 2, "boxstyle": "square,pad=0"}
            box = boxes.AnnotationBbox(own, self.positions[index], pad=0, bboxprops=frame)
            ax.add_artist(box)
        name = _AXES[self.method]
        ax.set(
            title=f"{len(self.positions)} items by their codes ({name})",
            xlabel=f"{name} 1", ylabel=f"{name} 2",
        )  # fmt: skip
        if self.method != "pca":
            ax.set(xticks=[], yticks=[])
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_dots(self, ax: Any, what: str) -> Sequence[Any]:
        """The dots, with a legend or a bar of colours; the colour of each."""
        x, y = self.positions.T
        if self.labels is None:
            ax.scatter(x, y, s=14)
            return ["tab:blue"] * len(x)
        if type_of_target(self.labels).startswith("continuous"):
            dots = ax.scatter(x, y, s=14, c=np.asarray(self.labels, float))
            ax.figure.colorbar(dots, ax=ax)
            dots.update_scalarmappable()
            return list(dots.get_facecolors())
        classes = list(dict.fromkeys(sorted(self.labels, key=lambda one: (str(type(one)), one))))
        colours = colours_of(classes, what)
        for label in classes:
            own = [number for number, one in enumerate(self.labels) if one == label]
            name = name_of_label(label, self.display_labels)
            ax.scatter(x[own], y[own], s=14, color=colours[label], label=name)
        # Beside the map, where it covers nothing.
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        return [colours[one] for one in self.labels]


def _labels(y: Any, n: int) -> list[Any]:
    labels = np.asarray(y)
    if len(labels) != n or labels.ndim != 1:
        raise InputError(
            f"y must have one label for each of {n} items, got an array of shape {labels.shape}."
        )
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise InputError(
            f"y must be known, item {np.flatnonzero(np.isnan(labels))[0]} has NaN. Leave it out."
        )
    return labels.tolist()


def _check_finite(codes: np.ndarray, name: str) -> None:
    bad = np.flatnonzero(~np.isfinite(codes.reshape(len(codes), -1)).all(axis=1))
    if len(bad):
        raise InputError(
            f"Codes of {name} must be finite, got NaN or infinity for {len(bad)} items, the first "
            f"of which is {bad[0]}. Leave out those that cannot be read."
        )


def _positions(codes: np.ndarray, method: str, random_state: Any) -> np.ndarray:
    if (codes == codes[0]).all():
        return np.zeros((len(codes), 2))
    n_columns = 2 if method == "pca" else _COLUMNS
    n_columns = min(n_columns, *codes.shape)
    rows = PCA(n_columns, random_state=0).fit_transform(codes.astype(np.float64))
    if method == "pca":
        return np.pad(rows, ((0, 0), (0, 2 - n_columns)))
    if method == "tsne":
        perplexity = min(30.0, (len(rows) - 1) / 3)
        if rows.shape[1] < 2:
            rows = np.pad(rows, ((0, 0), (0, 1)))
        maker: Any = TSNE(perplexity=perplexity, init="pca", random_state=random_state)
    else:
        umap = import_optional("umap", 'method="umap"', "umap")
        # With a seed it works on one core, and says so unless it is told to.
        maker = umap.UMAP(
            n_neighbors=min(15, len(rows) - 1),
            random_state=random_state,
            n_jobs=-1 if random_state is None else 1,
        )
    return np.asarray(maker.fit_transform(rows), np.float64)


def _apart(positions: np.ndarray, n: int) -> list[int]:
    """Some of the items, no two of which are close on the map: one of each cell of a lattice."""
    low, high = positions.min(0), positions.max(0)
    side = int(np.ceil(np.sqrt(2 * n)))
    cells = np.floor((positions - low) / np.where(high > low, high - low, 1) * side)
    centres = (cells + 0.5) * (high - low) / side + low
    nearest: dict[tuple[float, ...], int] = {}
    distances = np.linalg.norm(positions - centres, axis=1)
    for one in np.argsort(distances, kind="stable"):
        nearest.setdefault(tuple(cells[one]), int(one))
    return sorted(nearest.values(), key=lambda one: distances[one])[:n]
