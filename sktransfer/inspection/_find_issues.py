"""`find_issues`: what is wrong with a set of images or texts, before anything is trained."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.base import clone
from sklearn.model_selection import check_cv

from ..exceptions import InputError, ItemError, shown
from ..finetune import array_of
from ..inputs import is_missing, look_like_texts
from ..selection import check_params, digests, kind_of, modality_of, probe_layer
from ._copies import Copies, Likeness, Pair, find_copies, likeness_for
from ._facts import facts_of
from ._issues import KINDS, Issue, Issues
from ._nearest import nearest, unit_rows
from ._odd_images import odd_images
from ._outliers import FEWEST, outliers

__all__ = ["find_issues"]

# Different items of a class below which the check of its labels is rough.
_FEW = 10
# Neighbours of each item: as many as outliers ask that are no copies, and of these the nearest,
# which may be copies.
_NEIGHBOURS, _NEAREST = 30, 20


def find_issues(
    X: Any,
    y: Any = None,
    backbone: Any = "efficientnet_lite0",
    *,
    codes: Any = None,
    split: Any = None,
    cv: Any = None,
    groups: Any = None,
    weights: Any = "default",
    image_size: Any = None,
    cache: Any = "memory",
    regression: bool | str = "auto",
    facts: bool = True,
    **codes_params: Any,
) -> Issues:
    """Find duplicates, wrong labels, outliers, leaks, and items that cannot be read or seen.

    Codes are computed once, in one pass of the network, and kept where an estimator finds them.

    - *unreadable*: the item cannot be opened or decoded.
    - *duplicate*: the same file, pixels or text as another.
    - *near duplicate*: re-encoded, resized, cropped, mirrored, darkened. Candidates are near by
      codes; each is then verified on the pixels, at the place where the two fit best. Of texts:
      the same but for case, punctuation and a few letters.
    - *conflict*: duplicates, near ones too, with different labels.
    - *leak*: duplicates, near ones too, on both sides of `split`, of folds of `cv`, or in
      different `groups`.
    - *label*: improbable to a linear probe that was fitted without the item and its copies, while
      another label is as probable as it usually is where it is right: confident learning [1]_.
    - *outlier*: the mean distance to its twenty nearest, by codes, is far above what is usual.
    - Of images also *dark*, *bright*, *blank*, *blurred*, *odd size*, *odd aspect ratio*, and
      *greyscale* where at most a tenth is so: what :func:`~sktransfer.inspection.image_facts`
      measures, against bounds and against the other images.

    Parameters
    ----------
    X : array, list or table of images or texts
        As in :class:`sktransfer.CNNCodes`, or :class:`sktransfer.TextCodes` where `backbone` is
        for texts.
    y : array-like of shape (n_samples,), (n_samples, n_outputs) or (n_samples, n_tags), \
default=None
        Labels, or a matrix of tags: 0, 1, and NaN where it is not known. Labels that are missing
        (None, NaN) are no issue and not checked. Of values, floats with fractions, conflicts alone
        are looked for.
    backbone : str, path, CNNCodes, TextCodes or torch.nn.Module, default="efficientnet_lite0"
        The network, which says whether `X` holds images or texts. A transformer may be fitted or
        not, and is left as it is.
    codes : array-like of shape (n_samples, n_features), default=None
        Codes that were computed before; rows with NaN are unreadable items. None computes them.
    split : array-like of shape (n_samples,), default=None
        The side of each item, such as "train" and "test".
    cv : int, splitter or iterable, default=None
        As in :func:`~sklearn.model_selection.cross_val_score`: folds of which leaks are told.
    groups : array-like of shape (n_samples,), default=None
        Such as patients. A group is in one fold when labels are checked. Without `cv`, copies in
        different groups are leaks; with it, `cv` is given them.
    weights : str, enum member, path or None, default="default"
        Of a network given by name.
    image_size : int or (int, int), default=None
        Pixels that a network for images, given by name, sees.
    cache : "memory", path, Store or None, default="memory"
        Where codes are kept.
    regression : {"auto", True, False}, default="auto"
        "auto" takes floats with fractions for values and all else for labels.
    facts : bool, default=True
        Whether to measure light, sharpness, size and colour of images, which takes about as long as
        the pass of a small network.
    **codes_params : dict
        More parameters of :class:`sktransfer.CNNCodes` or :class:`sktransfer.TextCodes`, for
        networks given by name.

    Returns
    -------
    issues : Issues
        A table, a page with thumbnails, and the numbers of the items to drop.

    Raises
    ------
    InputError
        If `X` is no collection of items, or `y`, `codes`, `split` or `groups` are not as many.
    BackboneError
        If the network cannot be loaded.

    See Also
    --------
    sktransfer.advise : Which network and strategy, once the data are clean.

    References
    ----------
    .. [1] C. Northcutt, L. Jiang, I. Chuang (2021). Confident learning: Estimating uncertainty in
       dataset labels. JAIR 70.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer import find_issues
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> X, y = load_cifar10_sample(return_X_y=True)
    >>> X = np.concatenate([X[:40], X[:1, :, ::-1]])  # the last is the first, mirrored
    >>> issues = find_issues(X, image_size=64)
    >>> issues.indices("near duplicate").tolist(), issues.drop.tolist()
    ([40], [40])
    >>> X = np.delete(X, issues.drop, axis=0)
    """
    given = {} if image_size is None else {"image_size": image_size}
    modality = modality_of(backbone)
    if modality.noun == "image" and look_like_texts(X):
        raise InputError(
            "X holds texts, but backbone= is a network for images. Pass backbone=TextCodes()."
        )
    check_params(find_issues, {**given, **codes_params}, modality)
    if isinstance(backbone, modality.codes):
        if given or codes_params:
            raise ValueError(
                "backbone is a transformer, whose parameters are its own: set "
                f"{', '.join([*given, *codes_params])} on it."
            )
        fitted = hasattr(backbone, "backbone_")
        transformer = copy.copy(backbone) if fitted else clone(backbone)
    else:
        transformer = modality.codes(
            backbone, weights=weights, cache=cache, **given, **codes_params
        )
    look = _look(X, transformer.set_params(on_error="nan"), modality, codes)
    targets = _Targets.of(y, len(look.items), regression, modality.noun)
    sides = _Sides.of(split, cv, groups, y, targets, len(look.items))
    return _Search(look, targets, sides).issues(facts=facts)


# What is looked at.


@dataclass(frozen=True, eq=False)
class _Look:
    """Items and their codes.

    Attributes
    ----------
    items : Images or Texts
    rows : ndarray of shape (n, width)
    causes : dict of int to str
        Why items cannot be read.
    digests : ndarray of int
        The same number for the same content.
    """

    items: Any
    rows: np.ndarray
    causes: dict[int, str]
    digests: np.ndarray

    @property
    def readable(self) -> np.ndarray:
        found = np.ones(len(self.items), dtype=bool)
        found[list(self.causes)] = False
        return found


def _look(X: Any, transformer: Any, modality: Any, codes: Any) -> _Look:
    if codes is not None:
        items = modality.items(transformer, X)
        rows = np.asarray(codes, dtype=np.float32)
        if rows.ndim != 2 or len(rows) != len(items):
            raise InputError(
                f"codes= must have one row for each of {len(items)} {modality.noun}s, got an array "
                f"of shape {rows.shape}."
            )
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        causes = dict.fromkeys(bad.tolist(), "its codes are not finite")
    else:
        if not hasattr(transformer, "backbone_"):
            transformer.fit(X)
        items = transformer._items(X)
        rows, errors = transformer._codes_of(items)
        rows = rows.reshape(len(rows), -1)
        causes = {int(error.index or 0): error.cause for error in errors}
    numbers, opened = digests(items, strict=False)
    for index in np.flatnonzero(~opened):
        try:
            items.open(int(index))
        except ItemError as error:
            causes[int(index)] = error.cause
    return _Look(items, rows, causes, numbers)


class _Targets:
    """Labels of those items that have one.

    Attributes
    ----------
    kind : Kind or None
        None where no item has a label.
    known : ndarray of shape (n,), bool
    values : ndarray
        Of the known ones.
    """

    def __init__(self, kind: Any, known: np.ndarray, values: Any):
        self.kind, self.known, self.values = kind, known, values
        self._at = np.cumsum(known) - 1
        self._numbers = None if kind is None else kind.numbers(values)

    @classmethod
    def of(cls, y: Any, n: int, regression: bool | str, noun: str) -> _Targets:
        """Read targets.

        Raises
        ------
        InputError
            If they are not as many as items.
        """
        if y is None:
            return cls(None, np.zeros(n, dtype=bool), None)
        rows = list(y.toarray() if hasattr(y, "toarray") else getattr(y, "values", y))
        check_length("y", rows, n, noun)
        known = np.array([not _is_unknown(row) for row in rows], dtype=bool)
        if not known.any():
            return cls(None, known, None)
        kept = array_of([row for row, is_known in zip(rows, known, strict=True) if is_known])
        # A table of tags names them.
        kind = kind_of(kept, regression, noun, [str(one) for one in getattr(y, "columns", ())])
        return cls(kind, known, kind.read(kept))

    def number(self, index: int) -> bytes | None:
        """Equal for equal targets; None where there is none."""
        if self._numbers is None or not self.known[index]:
            return None
        return self._numbers[self._at[index]].tobytes()

    def shown(self, index: int) -> str:
        return shown(self.values[self._at[index]])


def _is_unknown(row: Any) -> bool:
    if np.ndim(row):
        return all(is_missing(one) for one in row)
    return is_missing(row)


def check_length(name: str, values: Any, n: int, noun: str) -> None:
    """Refuse what is not as long as there are items.

    Raises
    ------
    InputError
    """
    if len(values) != n:
        raise InputError(
            f"{name} must have one entry for each of {n} {noun}s, got {len(values)}."
        )


class _Sides:
    """On which sides items stand that must have no copies in common.

    Attributes
    ----------
    values : ndarray of shape (n,), int, or None
        The side of each item.
    names : ndarray
        Of sides.
    folds : list of (ndarray, ndarray) or None
        Numbers to train on and to test.
    groups : ndarray of shape (n,), int, or None
    """

    def __init__(self, values: Any, names: Any, folds: Any, groups: Any) -> None:
        self.values, self.names, self.folds, self.groups = values, names, folds, groups

    @classmethod
    def of(
        cls, split: Any, cv: Any, groups: Any, y: Any, targets: _Targets, n: int
    ) -> _Sides:
        """Read what the user gave."""
        found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for name, given in (("split", split), ("groups", groups)):
            if given is None:
                continue
            column = list(getattr(given, "values", given))
            check_length(f"{name}=", column, n, "item")
            if missing := [index for index, one in enumerate(column) if is_missing(one)]:
                raise InputError(
                    f"{name}= must have a value for each item, but {shown(column[missing[0]])} is "
                    f"that of {len(missing)}, first of item {missing[0]}."
                )
            names, numbers = np.unique(np.array(column), return_inverse=True)
            found[name] = names, numbers
        group_numbers = found["groups"][1] if "groups" in found else None
        folds = None
        if cv is not None:
            are_labels = targets.kind is not None and not targets.kind.are_values
            splitter = check_cv(cv, y, classifier=are_labels)
            folds = list(splitter.split(np.zeros((n, 1)), y, group_numbers))
        if "split" not in found and folds is not None:
            found.pop("groups", None)  # the splitter knows them
        nothing: tuple[Any, Any] = (None, None)
        names, values = found.get("split") or found.get("groups") or nothing
        return cls(values, names, folds, group_numbers)

    def leaks(self, members: np.ndarray) -> Iterator[tuple[int, int, str]]:
        """Of items that are one: pairs on different sides, the second where most items are."""
        if self.values is not None:
            sizes = np.bincount(self.values)
            sides = self.values[members]
            base = int(members[np.argmax(sizes[sides])])
            for index in members[sides != self.values[base]]:
                one, other = (shown(self.names[self.values[at]]) for at in (index, base))
                yield int(index), base, f"stands in {one}, and a copy in {other}"
        told: set[int] = set()
        for number, (train, test) in enumerate(self.folds or ()):
            trained, tested = members[np.isin(members, train)], members[np.isin(members, test)]
            for index in tested:
                others = trained[trained != index]
                if len(others) and int(index) not in told:
                    told.add(int(index))
                    yield (
                        int(index),
                        int(others[0]),
                        f"is tested in fold {number}, and a copy is trained on",
                    )


# The search.


class _Search:
    """Finds the issues of some items; what is found first is used by what comes later."""

    def __init__(self, look: _Look, targets: _Targets, sides: _Sides):
        self._look, self._targets, self._sides = look, targets, sides
        self._likeness: Likeness = likeness_for(look.items)
        self._noun = look.items.noun
        readable = look.readable
        # One of each content, so that many copies of one are no neighbourhood.
        _, first = np.unique(np.where(readable, look.digests, -1), return_index=True)
        self._numbers = np.sort(first[readable[first]])
        self._neighbours = nearest(unit_rows(look.rows[self._numbers]), _NEIGHBOURS)
        others, similar = self._neighbours
        self._copies: Copies = find_copies(
            self._likeness, look.digests, readable, self._numbers,
            (others[:, :_NEAREST], similar[:, :_NEAREST]),
        )  # fmt: skip
        self._notes: list[str] = []
        self._quality: np.ndarray | None = None
        if not readable.any():
            self._notes.append(f"None of {len(readable)} {self._noun}s can be read.")
        self._drop: set[int] = set(look.causes)

    def issues(self, *, facts: bool) -> Issues:
        found = [
            *self._unreadable(),
            *self._duplicates(),
            *self._labels(),
            *self._outliers(),
            *(self._odd_images() if facts and self._noun == "image" else ()),
        ]
        order = {kind: at for at, kind in enumerate(KINDS)}
        found.sort(key=lambda one: (order[one.issue], -one.score, one.index))
        drop = np.array(sorted(self._drop), dtype=np.int64)
        return Issues(tuple(found), drop, tuple(self._notes), self._look.items,
                      self._quality)  # fmt: skip

    def _unreadable(self) -> Iterator[Issue]:
        for index, cause in sorted(self._look.causes.items()):
            yield Issue(index, "unreadable", 1.0, None, f"Fix or remove it: {cause}.")

    def _duplicates(self) -> Iterator[Issue]:
        """Duplicates, and what hangs on them: conflicts and leaks."""
        digests, noun = self._look.digests, self._noun
        pairs: dict[tuple[int, int], Pair] = {}
        for pair in self._copies.near:
            a, b = int(digests[pair.one]), int(digests[pair.other])
            pairs[a, b] = pairs[b, a] = pair
        for members in self._copies.groups():
            best_first = self._best_first(members)
            kept = best_first[0]
            scores = {kept: 1.0}
            for at, index in enumerate(best_first[1:], 1):
                issue, other, pair = self._copied(index, best_first[:at], best_first, pairs)
                scores[index] = pair.score
                action = f"Drop it: {pair.how}, and {noun} {kept} is kept."
                if issue == "near duplicate" and self._differ(index, kept):
                    # Two things that are much alike may look so, too.
                    action = f"Look at both: {pair.how}, or another one much like {noun} {kept}."
                else:
                    self._drop.add(index)
                yield Issue(index, issue, pair.score, other, action)
            yield from self._conflicts(best_first, scores)
            for index, other, where in self._sides.leaks(members):
                score = min(scores[index], scores[other])
                action = f"Drop one of the two: it {where}."
                yield Issue(index, "leak", score, other, action)

    def _best_first(self, members: np.ndarray) -> list[int]:
        """Of items that are one the one to keep: with the commonest label, then the largest."""
        labels = {int(index): self._targets.number(int(index)) for index in members}
        given = [label for label in labels.values() if label is not None]
        order = [(-given.count(label) if label is not None else 1, -self._likeness.size(index),
                  index) for index, label in labels.items()]  # fmt: skip
        return [index for *_, index in sorted(order)]

    def _copied(
        self,
        index: int,
        earlier: Sequence[int],
        others: Sequence[int],
        pairs: dict[tuple[int, int], Pair],
    ) -> tuple[str, int, Pair]:
        """Of what an item is a copy: of one that is better, or linked with it."""
        digests = self._look.digests
        own = int(digests[index])
        for other in earlier:
            if digests[other] == own:
                return "duplicate", other, Pair(other, index, 1.0, "the same content")
        for other in [*earlier, *others]:
            if pair := pairs.get((own, int(digests[other]))):
                return "near duplicate", other, pair
        raise AssertionError("An item of a group is linked with another.")

    def _differ(self, one: int, other: int) -> bool:
        """Whether two have different labels."""
        labels = self._targets.number(one), self._targets.number(other)
        return None not in labels and labels[0] != labels[1]

    def _conflicts(self, members: list[int], scores: dict[int, float]) -> Iterator[Issue]:
        labelled = [index for index in members if self._targets.number(index) is not None]
        for index in labelled[1:]:
            first = labelled[0]
            if self._differ(index, first):
                own, other = self._targets.shown(index), self._targets.shown(first)
                score = min(scores[index], scores[first])
                digests = self._look.digests
                like = "the same" if digests[index] == digests[first] else "nearly the same"
                action = (
                    f"Correct the wrong one: {own} here, but {other} for {self._noun} {first}, "
                    f"which is {like}."
                )
                yield Issue(index, "conflict", score, first, action)

    def _outliers(self) -> Iterator[Issue]:
        if len(self._numbers) < FEWEST:
            self._notes.append(
                f"Outliers were not looked for: that takes {FEWEST} different {self._noun}s."
            )
            return
        owners = self._copies.owners[self._numbers]
        for at, score in zip(*outliers(*self._neighbours, owners), strict=True):
            action = f"Look at it: it is unlike the {self._noun}s that are nearest to it."
            yield Issue(int(self._numbers[at]), "outlier", float(score), None, action)

    def _odd_images(self) -> Iterator[Issue]:
        causes = self._look.causes
        yield from (one for one in odd_images(facts_of(self._look.items))
                    if one.index not in causes)  # fmt: skip

    def _labels(self) -> Iterator[Issue]:
        kind, known = self._targets.kind, self._targets.known
        if kind is None:
            return
        if kind.are_values:
            self._notes.append("Values were not checked, but for conflicts of duplicates.")
            return
        owners, readable = self._owners()[known], self._look.readable[known]
        try:
            usable, _ = kind.usable(self._targets.values, owners, readable)
        except ValueError as error:
            self._notes.append(f"Labels were not checked: {error}")
            return
        usable &= readable
        chosen = np.flatnonzero(known)[usable]
        if left := int(known.sum() - len(chosen) - (~readable).sum()):
            self._notes.append(
                f"{left} label(s) were not checked: their classes have fewer than 2 different "
                f"{self._noun}s."
            )
        values = self._targets.values[usable]
        target = kind.numbers(values)
        splits = kind.make_splits(target, 5, groups=owners[usable])
        if not all(kind.can_learn(target[learn]) for learn, _ in splits):
            self._notes.append(
                f"Labels were not checked: there are too few different {self._noun}s of each."
            )
            return
        answers = probe_layer("codes", self._look.rows[chosen], target, splits, kind).answers
        # Of a class that is in one fold alone a probe cannot say that a label is right.
        unseen = {int(index) for learn, test in splits if target.ndim == 1
                  for index in test[~np.isin(target[test], target[learn])]}  # fmt: skip
        self._note_few(target, owners[usable])
        quality = kind.of_given(answers, values)
        quality[list(unseen)] = np.nan
        self._quality = np.full(len(known), np.nan)
        self._quality[chosen] = quality
        for doubt in kind.doubts(answers, values):
            if doubt.index in unseen:
                continue
            action = f"Check the label: {shown(doubt.given)} seems to be {shown(doubt.seems)}."
            yield Issue(int(chosen[doubt.index]), "label", doubt.score, None, action)

    def _note_few(self, target: np.ndarray, owners: np.ndarray) -> None:
        if target.ndim > 1:
            return
        fewest = min(len(np.unique(owners[target == one])) for one in np.unique(target))
        if fewest < _FEW:
            self._notes.append(
                f"The check of labels is rough: the smallest class has {fewest} different "
                f"{self._noun}s, fewer than {_FEW}. Look through ranked_labels() too."
            )

    def _owners(self) -> np.ndarray:
        """The same number for items that must be in one fold: copies, and those of a group."""
        owners, groups = self._copies.owners, self._sides.groups
        if groups is None:
            return owners
        n = len(owners)
        graph = coo_array((np.ones(n), (owners, n + groups)), shape=(2 * n, 2 * n))
        return connected_components(graph, directed=False)[1][owners]
