"""Images in rows, what is true of them beside what is predicted: what masks and boxes share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .._optional import import_optional, import_pyplot
from ..exceptions import ImageError, InputError, shown
from ..inputs import Images, as_images, look_like_texts

ORDERS = ("worst", "best", "given")

# Of labels: by label, or by number in a list.
Names = Mapping[Any, str] | Sequence[str] | None


def chosen(scores: np.ndarray, n_images: int, order: str) -> np.ndarray:
    """Numbers of the images to show; those without a score come last.

    Parameters
    ----------
    scores : ndarray of shape (n_images,)
    n_images : int
        At most so many.
    order : {"worst", "best", "given"}
    """
    if order not in ORDERS:
        raise ValueError(f"order= must be {', '.join(ORDERS)}, got {shown(order)}.")
    if n_images < 1:
        raise ValueError(f"n_images= must be at least 1, got {n_images}.")
    if order == "given":
        return np.arange(len(scores))[:n_images]
    signed = scores if order == "worst" else -scores
    return np.argsort(signed, kind="stable")[:n_images]  # NaN is last


def opened_images(X: Any, n: int, value_range: Any) -> Images:
    """Images to be drawn, as many as there are answers."""
    images = images_of(X, value_range)
    if len(images) != n:
        raise InputError(f"X must hold an image for each of {n} answers, got {len(images)}.")
    return images


def images_of(X: Any, value_range: Any) -> Images:
    """Images, and no texts, which would be names of files that are not there."""
    if look_like_texts(X):
        raise InputError("X must be images to be looked at, got texts.")
    return as_images(X, value_range=value_range)


def first_of(X: Any, n_images: int) -> Any:
    """The first items of an input: a figure of all of a thousand helps nobody."""
    if n_images < 1:
        raise ValueError(f"n_images= must be at least 1, got {n_images}.")
    # Slices are rows of lists, arrays, tensors, columns and data frames alike.
    return X[:n_images] if hasattr(X, "__len__") and len(X) > n_images else X


def _new_axes(what: str, n_rows: int, n_columns: int, size: tuple[float, float]) -> np.ndarray:
    """Those of a new figure, (n_rows, n_columns); `size` is width and height of one, in inches."""
    figsize = (size[0] * n_columns, size[1] * n_rows)
    made: np.ndarray = import_pyplot(what).subplots(
        n_rows, n_columns, figsize=figsize, squeeze=False, layout="constrained"
    )[1]
    return made


def _in_a_row(axes: Any) -> np.ndarray:
    """Axes that were given, in whatever shape."""
    return np.atleast_1d(np.asarray(axes, dtype=object)).ravel()


def cells(
    axes: Any, n: int, what: str, *, columns: int = 4, size: tuple[float, float] = (2.6, 2.9)
) -> np.ndarray:
    """One of Axes for each of some images, in rows: those given, or those of a new figure.

    Raises
    ------
    ValueError
        If there are not as many as images.
    """
    if axes is None:
        columns = min(columns, n)
        every = _new_axes(what, -(-n // columns), columns, size).ravel()
        for ax in every[n:]:
            ax.set_axis_off()
        return every[:n]
    found = _in_a_row(axes)
    if len(found) != n:
        raise ValueError(f"axes= must hold one for each of {n}, got {len(found)}.")
    return found


def colours_of(classes: Sequence[Any], what: str) -> dict[Any, Any]:
    """A colour for each class."""
    colormap = import_optional("matplotlib", what, "plot").colormaps
    few, many = colormap["tab10" if len(classes) <= 10 else "tab20"], colormap["hsv"]
    return {
        label: few(n) if len(classes) <= 20 else many(n / len(classes))
        for n, label in enumerate(classes)
    }


def name_of_label(label: Any, names: Names) -> str:
    """What a label is called: by a dict, or by its place in a list such as `target_names`.

    Raises
    ------
    ValueError
        If it has no place in the list.
    """
    if names is None:
        return str(label)
    if isinstance(names, Mapping):
        return str(names.get(label, label))
    if isinstance(label, (int, np.integer)):
        if not 0 <= label < len(names):
            raise ValueError(
                f"display_labels= must name every label, got {len(names)} names and the label "
                f"{label}. A dict names some."
            )
        return str(names[int(label)])
    if isinstance(label, str) and label not in names:
        raise ValueError(
            f"display_labels= must be a dict where labels are no numbers, got a list and the label "
            f"{shown(repr(label))}."
        )
    return str(label)


def names_of_classes(
    names: Names, classes: Sequence[Any]
) -> Mapping[Any, str] | None:
    """Names by label, of a list in the order of the classes.

    A list may be longer where labels are numbers, of which an estimator has not met all.

    Raises
    ------
    ValueError
        If the list has another length.
    """
    if names is None or isinstance(names, Mapping):
        return names
    names = list(names)
    if len(names) == len(classes):
        return dict(zip(classes, names, strict=True))
    numbers = all(isinstance(one, (int, np.integer)) for one in classes)
    if numbers and list(classes) != list(range(len(classes))) and max(classes) < len(names):
        return {one: names[one] for one in classes}
    raise ValueError(
        f"display_labels= must name each of {len(classes)} classes in their order, "
        f"{shown(list(classes))}, got {len(names)} names."
    )


# Longer sides of images in figures of many.
_SIDE = 224


def thumbnail(images: Images, index: int) -> np.ndarray | None:
    """A small copy of an image; None if it cannot be read."""
    try:
        pixels = images.open(index).pixels()
    except ImageError:
        return None
    scale = _SIDE / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = [max(1, round(scale * side)) for side in pixels.shape[1::-1]]
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


def draw(ax: Any, image: np.ndarray | None, title: str, **font: Any) -> None:
    """An image without axes, its title above."""
    if image is None:
        ax.text(0.5, 0.5, "cannot be read", ha="center", va="center", transform=ax.transAxes)
    else:
        ax.imshow(image)
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize="medium", **font)


def codes_of(estimator: Any, X: Any) -> np.ndarray:
    """Rows that an estimator, or a pipeline without its last step, makes of items.

    Raises
    ------
    TypeError
        If it makes none.
    """
    estimator = getattr(estimator, "best_estimator_", estimator)
    if not hasattr(estimator, "transform") and isinstance(estimator, Pipeline):
        estimator = estimator[:-1]
    if not hasattr(estimator, "transform"):
        raise TypeError(
            "estimator must have transform, such as a fitted CNNCodes or a pipeline that begins "
            f"with one, got {type(estimator).__name__}."
        )
    codes = np.asarray(estimator.transform(X))
    return codes.reshape(len(codes), -1)


def items_of(estimator: Any, X: Any, value_range: Any) -> Images:
    """Images as an estimator reads them, where it knows how."""
    estimator = getattr(estimator, "best_estimator_", estimator)
    first = estimator[0] if isinstance(estimator, Pipeline) else estimator
    if hasattr(first, "_items"):
        check_is_fitted(first)
        found = first._items(X)
        if isinstance(found, Images):
            return found
        raise InputError(f"X must be images to be drawn, {type(first).__name__} takes texts.")
    return images_of(X, value_range)


def title_of(figure: Any, axes: Any, text: str) -> None:
    """A title over a figure that was made here."""
    if axes is None:
        figure.suptitle(text)


class Grid:
    """Axes for some images in rows, truth and prediction in columns, and colours of classes.

    Parameters
    ----------
    axes : array of Axes or None
        One for each cell, in any shape; None makes a figure.
    display : MaskDisplay or BoxDisplay
        Whose images, answers, classes and scores are drawn.
    display_labels : mapping or None
        Names of labels.
    """

    def __init__(self, axes: Any, display: Any, display_labels: Mapping[Any, str] | None):
        self._display, classes, what = display, display.classes, type(display).__name__
        truth = {} if display.y_true is None else {"truth": display.y_true}
        self._sides = {**truth, "prediction": display.y_pred}
        n_rows, n_columns = len(display.images), len(self._sides)
        if axes is None:
            axes = _new_axes(what, n_rows, n_columns, (4, 3.2))
        found = _in_a_row(axes)
        if len(found) != n_rows * n_columns:
            raise ValueError(
                f"axes= must hold {n_rows * n_columns}, {n_columns} for each of {n_rows} images, "
                f"got {len(found)}."
            )
        self.axes = found.reshape(n_rows, n_columns)
        self.figure = self.axes[0, 0].figure
        self._names = display_labels or {}
        self.colours = colours_of(classes, what)

    def name(self, label: Any) -> str:
        """What a label is called."""
        return str(self._names.get(label, label))

    def cells(self, measure: str) -> Iterator[tuple[Any, Any]]:
        """Draw image after image; gives the axes, and what is to be drawn over it."""
        display, scored = self._display, len(self._sides) > 1
        for row, (index, score) in enumerate(zip(display.indices, display.scores, strict=True)):
            for column, (side, answers) in enumerate(self._sides.items()):
                told = f", {measure} {score:.2f}" if scored and side == "prediction" else ""
                ax = self.axes[row, column]
                ax.imshow(display.images[row])
                ax.set(xticks=[], yticks=[])
                ax.set_title(f"{side} of image {index}{told}", fontsize="medium")
                yield ax, answers[row]

    def legend(self, labels: Sequence[Any]) -> None:
        """A legend of labels outside of the images."""
        patches = import_optional("matplotlib.patches", "A legend", "plot")
        handles = [
            patches.Patch(color=self.colours[one], label=self.name(one)) for one in labels
        ]
        if handles:
            self.figure.legend(handles=handles, loc="outside right upper")
