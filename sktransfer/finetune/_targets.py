"""Targets and weights as users give them, checked before the first epoch."""

from __future__ import annotations

import warnings
from numbers import Number, Real
from typing import Any

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array

from .._sklearn import check_sample_weight
from ..exceptions import nearest, shown

__all__ = [
    "array_of",
    "as_labels",
    "as_values",
    "as_weights",
    "check_balanced",
    "check_classes",
    "check_length",
    "class_weights",
    "is_missing",
    "labels_of",
    "unique_labels",
    "values_of",
    "weights_by_class",
    "weights_by_label",
]


# What to do about a class that was not there before, by whose labels it is in.
_UNSEEN = {
    "y": "With warm_start=True fit keeps the classes it had; warm_start=False starts again.",
    "y of partial_fit": "Name all classes in the first call: partial_fit(X, y, classes=...).",
    "y of validation_data": "Remove these samples, or include samples of this class in fit.",
}


def as_labels(
    y: Any, n_samples: int, classes: Any = None, name: str = "y"
) -> tuple[np.ndarray, np.ndarray]:
    """Classes in order, and the number of the class of each sample.

    Parameters
    ----------
    y : array-like
    n_samples : int
    classes : array-like or None
        Those that there may be; None takes those of `y`.
    name : {"y", "y of partial_fit", "y of validation_data"}
        For messages.

    Raises
    ------
    ValueError
        If there are not as many labels as samples, labels are missing or no classes, there is one
        class alone, or a label is none of the given classes.
    """
    labels = labels_of(y, name)
    check_length(labels, n_samples, name)
    known = unique_labels(labels if classes is None else labels_of(classes, "classes"), name)
    if len(known) < 2:
        more = " Name all classes in classes=." if name == "y of partial_fit" else ""
        raise ValueError(
            f"{name} must hold at least 2 classes, got 1 class: {known.tolist()[0]!r}.{more}"
        )
    # The text "1" is not the number 1, though numpy finds them equal.
    texts = [isinstance(one[:1].tolist()[0], str) for one in (labels, known)]
    unknown = ~np.isin(labels, known) if texts[0] == texts[1] else np.ones(len(labels), bool)
    if unknown.any():
        raise ValueError(
            f"{name} must hold the classes {shown(known.tolist())}, got "
            f"{shown(repr(labels[unknown].tolist()[0]))} for sample "
            f"{int(np.flatnonzero(unknown)[0])}. {_UNSEEN[name]}"
        )
    return known, np.searchsorted(known, labels).astype(np.int64)


def labels_of(y: Any, name: str = "y") -> np.ndarray:
    """One label for each sample, of a kind that can be put in order.

    Raises
    ------
    ValueError
        If there are several labels for a sample, labels are missing, of mixed kinds or no classes.
    """
    if y is None:
        raise ValueError(
            f"fit requires y to be passed, but the target y is None: {name} must be labels."
        )
    plain = array_of(y)
    _refuse_unordered(y, plain, name)
    if plain.ndim > 1 and plain.shape[1:] != (1,):
        raise ValueError(_several_labels(plain, name))
    if isinstance(y, (list, tuple)) or plain.dtype == object:
        # Arrays made of lists hide what was in them: [1, "a"] becomes two texts.
        items = list(y) if isinstance(y, (list, tuple)) and plain.ndim == 1 else plain.tolist()
        several = (list, tuple, set, frozenset, dict, np.ndarray)
        if any(isinstance(one, several) and one is not np.ma.masked for one in items):
            if plain.ndim == 1:
                raise ValueError(_several_labels(plain, name))
        else:
            _refuse_missing(items, name, "label")
            _refuse_mixed(items, name)
    _refuse_missing(plain.ravel().tolist(), name, "label")
    if plain.dtype.kind == "f" and not np.isfinite(plain).all():
        raise ValueError(f"{name} must hold labels, but Input y contains infinity.")
    labels = column_or_1d(y if hasattr(y, "iloc") else plain, warn=True)
    try:
        if name != "classes":
            check_classification_targets(labels)
    except (TypeError, ValueError) as error:
        if len(labels) and np.asarray(labels).dtype == object:
            first = np.asarray(labels)[0]
            raise ValueError(
                f"Unknown label type: {name} must hold plain labels, such as text or integers, got "
                f"objects of type {type(first).__name__} ({shown(repr(first), 40)} for sample 0). "
                "Convert them, for example with [str(label) for label in y]."
            ) from error
        if isinstance(error, TypeError):
            raise ValueError(f"{name} must hold labels: {shown(error)}") from error
        raise
    return np.asarray(labels)


def unique_labels(labels: np.ndarray, name: str = "y") -> np.ndarray:
    """Classes in order."""
    try:
        return np.unique(labels)
    except TypeError as error:
        raise ValueError(
            f"{name} must hold labels that can be put in order, such as strings or integers: "
            f"{shown(error).rstrip('.')}."
        ) from error


def array_of(y: Any) -> np.ndarray:
    """An array of labels or values of any kind."""
    if hasattr(y, "toarray"):
        y = y.toarray()
    elif hasattr(y, "detach"):
        y = y.detach().cpu()
    if isinstance(y, np.ma.MaskedArray):
        return _unmasked(y)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Warning: converting a masked element to nan")
            plain = np.asarray(y)
        if plain.dtype.kind == "U" and isinstance(y, (list, tuple)):
            # numpy takes str(item), which is "Animal.CAT" for members of a (str, Enum).
            items = np.asarray(y, dtype=object)
            if any(type(one) not in (str, np.str_) for one in items.flat if isinstance(one, str)):
                return items
        return plain
    except ValueError:  # lists of several lengths
        made = np.empty(len(y), object)
        made[:] = list(y)
        return made


def _refuse_unordered(y: Any, plain: np.ndarray, name: str) -> None:
    """Sets, generators and the like, which numpy takes for one thing."""
    if plain.ndim or isinstance(y, (str, bytes, Number)):
        return
    what = "of all labels" if name == "classes" else "with one for each sample, in their order"
    raise ValueError(
        f"{name} must be a list or an array {what} (a 1d array), got {type(y).__name__}."
    )


def _unmasked(values: Any) -> np.ndarray:
    """What is masked is missing, whatever lies below the mask."""
    mask = np.ma.getmaskarray(values)
    plain = np.asarray(values.data)
    if mask.any():
        plain = plain.astype(object)
        plain[mask] = None
    return plain


def _several_labels(y: np.ndarray, name: str) -> str:
    if y.ndim == 2 and y.dtype.kind in "biuf" and np.isin(y, (0, 1)).all():
        if (y.sum(axis=1) == 1).all():
            return (
                f"{name} must hold one label for each sample, got one-hot rows of shape {y.shape}. "
                "Take the number of each class: y.argmax(axis=1)."
            )
    if y.ndim == 1 or y.dtype.kind not in "biuf":
        found = "lists of labels" if y.ndim == 1 else f"an array of shape {y.shape}"
        hint = (
            "For several tags a sample, make an indicator matrix of them: "
            "sklearn.preprocessing.MultiLabelBinarizer().fit_transform(y)."
        )
    else:
        found = f"an array of shape {y.shape}"
        hint = (
            "For several labels, wrap the estimator: "
            "sklearn.multioutput.MultiOutputClassifier(FineTuneClassifier())."
        )
        other = ~(np.isin(y, (0, 1)) | (y != y))
        if y.ndim == 2 and other.any():
            row, column = (int(one) for one in np.argwhere(other)[0])
            hint = (
                "Several tags a sample are a matrix of 0, 1, and NaN where it is not known; this "
                f"one holds {y[row, column]!s} for sample {row}, column {column}. {hint}"
            )
    return f"{name} should be a 1d array with one label for each sample, got {found}. {hint}"


def _refuse_missing(values: list[Any], name: str, what: str) -> None:
    missing = [index for index, one in enumerate(values) if is_missing(one)]
    if missing:
        first = values[missing[0]]
        told = "NaN" if isinstance(first, float) else shown(first)
        raise ValueError(
            f"{name} must hold a {what} for each sample, but is {told} for {len(missing)}, first "
            f"for sample {missing[0]}: y[{missing[0]}] is missing. Leave these samples out."
        )


def is_missing(value: Any) -> bool:
    """Whether a label or value is not there: None, NaN, pandas' NA and the like."""
    if value is None or type(value).__name__ in ("NAType", "NaTType", "MaskedConstant"):
        return True
    return isinstance(value, (float, np.floating, np.datetime64)) and bool(value != value)


def _kinds(labels: list[Any]) -> dict[str, int]:
    """The kinds of labels, each with the first sample that has it."""
    found: dict[str, int] = {}
    for index, one in enumerate(labels):
        kind = type(one).__name__
        for base, told in ((bool, "bool"), (np.bool_, "bool"), (Real, "number"), (str, "str")):
            if isinstance(one, base):
                kind = told
                break
        found.setdefault(kind, index)
    return found


def _refuse_mixed(labels: list[Any], name: str) -> None:
    first = list(_kinds(labels).values())
    if len(first) > 1:
        each = [(type(labels[i]).__name__, shown(repr(labels[i]), 40), i) for i in first]
        told = [f"{kind} ({label} for sample {i})" for kind, label, i in each]
        raise ValueError(
            f"{name} must hold labels of one kind, got {' and '.join(told[:3])}. Convert them, "
            "for example with [str(label) for label in y]."
        )


def check_classes(classes: Any, before: np.ndarray) -> None:
    """Later calls of `partial_fit` may name the classes again, and no others."""
    named = labels_of(classes, "classes").tolist()
    if set(named) != set(before.tolist()):
        raise ValueError(
            f"classes must be those of the first call, {shown(before.tolist())}, got "
            f"{shown(named)}."
        )


def as_values(
    y: Any, n_samples: int, name: str = "y", n_outputs: int | None = None
) -> tuple[np.ndarray, bool]:
    """Targets of regression, shape (n_samples, n_outputs), float64; whether y had one axis.

    Parameters
    ----------
    y : array-like
    n_samples : int
    name : str
        For messages.
    n_outputs : int or None
        Columns that there must be.

    Raises
    ------
    ValueError
        If they are not finite numbers, one row for each sample.
    """
    if y is None:
        raise ValueError(
            f"fit requires y to be passed, but the target y is None: {name} must be numbers."
        )
    values = values_of(y, name)
    check_length(values, n_samples, name)
    is_flat, values = values.ndim == 1, values.reshape(len(values), -1)
    if n_outputs is not None and values.shape[1] != n_outputs:
        raise ValueError(
            f"{name} must have {n_outputs} value(s) for each sample, as the first fit had, got "
            f"{values.shape[1]}."
        )
    return values, is_flat


def values_of(y: Any, name: str = "y") -> np.ndarray:
    """Numbers to be predicted, in one or two axes.

    Raises
    ------
    ValueError
        If they are not finite numbers.
    """
    try:
        plain = array_of(y)
    except (TypeError, ValueError) as error:
        raise ValueError(_no_numbers(error, name)) from error
    _refuse_unordered(y, plain, name)
    try:
        if plain.dtype == object:  # None and pandas' NA are as missing as NaN
            items = [np.nan if is_missing(one) else one for one in plain.ravel().tolist()]
            plain = np.asarray(items).reshape(plain.shape)
        values = check_array(
            plain, ensure_2d=False, dtype="numeric", input_name="y", ensure_all_finite=False
        ).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(_no_numbers(error, name)) from error
    bad = ~np.isfinite(values)
    if bad.any():
        first = int(np.argwhere(bad)[0][0])
        found = "NaN" if np.isnan(values).any() else "infinity"
        raise ValueError(
            f"{name} must be finite numbers, but Input y contains {found}, first for sample "
            f"{first}. Leave these samples out."
        )
    return values


def _no_numbers(error: Exception, name: str) -> str:
    return (
        f"{name} must be numbers to be predicted: {shown(error).rstrip('.')}. For labels take a "
        "classifier."
    )


def check_length(labels: np.ndarray, n_samples: int, name: str) -> None:
    """As many targets as samples."""
    if len(labels) != n_samples:
        raise ValueError(
            f"{name.replace('y', 'X and y', 1)} have inconsistent numbers of samples: {n_samples} "
            f"samples and {len(labels)} labels; there must be one for each."
        )


def as_weights(sample_weight: Any, samples: Any) -> np.ndarray | None:
    """Weights of the samples, or None where all weigh the same.

    Raises
    ------
    ValueError
        If they are not finite numbers from 0, one for each sample, or all are 0.
    """
    if sample_weight is None:
        return None
    if isinstance(sample_weight, np.ma.MaskedArray) and np.ma.is_masked(sample_weight):
        masked = np.flatnonzero(np.ma.getmaskarray(sample_weight))
        raise ValueError(
            f"sample_weight must be a finite number from 0 for each of {len(samples)} samples, but "
            f"is masked for {len(masked)}, first for sample {masked[0]}. Give a weight of 0 to "
            "what must not count: sample_weight.filled(0)."
        )
    try:
        weights = check_sample_weight(
            sample_weight, np.empty((len(samples), 1)), ensure_non_negative=True
        ).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "sample_weight must be a finite number from 0, not 0 for all, for each of "
            f"{len(samples)} samples: {shown(error)}"
        ) from error
    top = weights.max(initial=0.0)
    if not top:
        raise ValueError("sample_weight must be a finite number from 0, but not 0 for all samples.")
    if not 1e-30 < top < 1e30:
        raise ValueError(
            "sample_weight must be a finite number from 0 that float32 can sum, but the largest is "
            f"{top:.3g}. Divide them by their mean."
        )
    return weights


def class_weights(class_weight: Any, classes: np.ndarray, numbers: np.ndarray) -> np.ndarray | None:
    """The weight of each class.

    Raises
    ------
    ValueError
        If they are not numbers from 0 by label, or all are 0.
    """
    if class_weight is None:
        return None
    if class_weight == "balanced":
        weights = np.ones(len(classes))
        present = np.unique(numbers)
        weights[present] = compute_class_weight("balanced", classes=present, y=numbers)
        return weights
    weights = weights_by_label(class_weight, classes)
    if not weights[numbers].any():
        raise ValueError(
            f"class_weight must be numbers from 0, not 0 for all, got {shown(repr(class_weight))}."
        )
    return weights


def check_balanced(class_weight: Any, fitted: Any) -> None:
    """Refuse weights by the number of samples in `partial_fit`, where no `fit` has told them.

    Raises
    ------
    ValueError
    """
    if isinstance(class_weight, str) and (fitted is None or fitted.task.class_weight is None):
        raise ValueError(
            'class_weight="balanced" needs all labels at once, which partial_fit does not '
            "have. Name the weights in a dict, or call fit first."
        )


def weights_by_label(given: Any, classes: np.ndarray, name: str = "class_weight") -> np.ndarray:
    """The weight of each class by a dict, 1 for those that it leaves out.

    As in scikit-learn a dict that has all classes may have others, of which no sample is here.

    Raises
    ------
    ValueError
        If a weight is no number from 0, or a label may be a misspelt one.
    """
    must = f"{name} must be a dict of a number from 0 for each class"
    if not isinstance(given, dict):
        raise ValueError(f"{must}, got {shown(repr(given))}.")
    for label, weight in given.items():
        if not _is_weight(weight):
            raise ValueError(
                f"{must}, got {shown(repr(weight))} for the class {shown(repr(label))}."
            )
    unknowns = [one for one in given if one not in set(classes)]
    if unknowns and any(one not in given for one in classes):
        unknown, labels = unknowns[0], {str(one): one for one in classes.tolist()}
        meant = [str(unknown)] if str(unknown) in labels else []
        if isinstance(unknown, str):
            meant = meant or nearest(unknown, labels)
        hint = " or ".join(repr(labels[one]) for one in meant)
        raise ValueError(
            f"{must}, got {shown(repr(unknown))}, which is none of the classes "
            f"{shown(list(labels.values()))}.{hint and f' Did you mean {hint}?'}"
        )
    return np.array([float(given.get(one, 1.0)) for one in classes])


def _is_weight(weight: Any) -> bool:
    try:
        return not isinstance(weight, (str, bytes)) and 0 <= float(weight) < np.inf
    except (TypeError, ValueError, RuntimeError):  # None, several numbers
        return False


def weights_by_class(
    by_class: np.ndarray, weights: np.ndarray | None, names: str = "class_weight"
) -> np.ndarray:
    """Weights of samples by their classes, times those that were given.

    Parameters
    ----------
    by_class : ndarray of shape (n_samples,)
    weights : ndarray of shape (n_samples,) or None
    names : str
        What the first are, for messages.

    Raises
    ------
    ValueError
        If all are 0, or float32 cannot sum them.
    """
    found = by_class
    if weights is not None:
        with np.errstate(over="ignore", under="ignore"):
            found = found * weights
        names = f"{names} times sample_weight"
    top = found.max(initial=0.0)
    if not top:
        raise ValueError(
            f"{names} must not be 0 for every sample, but it is for all {len(found)}. Give a class "
            "that has samples of a weight above 0 one too."
        )
    if not 1e-30 < top < 1e30:
        raise ValueError(
            f"{names} must be numbers that float32 can sum, but the largest is {top:.3g}. Divide "
            "them by their mean."
        )
    return found
