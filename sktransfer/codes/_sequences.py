"""Labels of the words of a sentence as a whole: entities, and the best path through them.

Labels of entities follow the scheme BIO (also IOB2): ``"B-LOC"`` for the first word of an entity,
``"I-LOC"`` for each further one, ``"O"`` for all other words; ``"B"`` and ``"I"`` where there is
one kind of them alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np

from ..exceptions import InputError, shown
from ..inputs import Texts, is_missing

__all__ = [
    "Transitions",
    "as_objects",
    "begins_with_b",
    "check_lengths",
    "check_sentences",
    "entity_f1",
    "follows_bio",
    "label_lists",
    "one_kind_of_labels",
    "scheme_of",
    "score_of",
]


MODES = ("default", "strict")
Entity = tuple[str, int, int]


# What an input of labels is.


def label_lists(y: Any, name: str = "y") -> list[list[Any]]:
    """Labels of sentences as lists of Python's own values.

    Parameters
    ----------
    y : list, array, Series or Arrow array
        For each sentence a list or array of the labels of its words.
    name : str
        For messages.

    Raises
    ------
    InputError
        If it is no collection of lists, or a label is missing; says which.
    """
    if isinstance(y, str | bytes) or not hasattr(y, "__len__") or not hasattr(y, "__getitem__"):
        raise InputError(
            f"{name} must be lists of labels, one list for each sentence, got {shown(repr(y), 60)}."
        )
    sentences = []
    for number, labels in enumerate(_listed(y)):
        if isinstance(labels, str | bytes) or not hasattr(labels, "__len__"):
            raise InputError(
                f"Sentence {number}: its labels must be a list with one for each word, got "
                f"{shown(repr(labels), 60)}."
            )
        labels = _listed(labels)
        for word, label in enumerate(labels):
            if is_missing(label):
                raise InputError(
                    f"Sentence {number}: the label of word {word} is missing ({label!r}). Leave "
                    "the sentence out, or label all its words."
                )
            if isinstance(label, list | tuple | dict | set):
                raise InputError(
                    f"Sentence {number}: the label of word {word} must be one value, got "
                    f"{shown(repr(label), 60)}."
                )
        sentences.append(labels)
    return sentences


def _listed(values: Any) -> list[Any]:
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(values, method):
            return list(getattr(values, method)())
    return list(values)


def one_kind_of_labels(labels: Sequence[Sequence[Any]]) -> np.ndarray:
    """The labels of all words, which must be all str, or all something else."""
    flat: list[Any] = []
    first: dict[bool, tuple[Any, int]] = {}
    for number, sentence in enumerate(labels):
        for label in sentence:
            first.setdefault(isinstance(label, str), (label, number))
        flat += sentence
    if not flat:
        raise InputError("X must have words, with a label each, but all sentences are empty.")
    if len(first) > 1:
        told = " and ".join(
            f"{shown(repr(label), 40)} in sentence {number}" for label, number in first.values()
        )
        raise InputError(f"Labels must be all str or all numbers, got {told}.")
    return np.asarray(flat)


# The scheme BIO.


def follows_bio(labels: Iterable[Any]) -> bool:
    """Whether labels are those of the scheme BIO: "O", "B", "B-…", "I" and "I-…", some with "B"."""
    labels = list(labels)
    return any(_part(one) == "B" for one in labels) and all(map(_part, labels))


def _part(label: Any) -> str:
    """The letter of a label of BIO; "" of others."""
    if not isinstance(label, str):
        return ""
    if label == "O" or label in ("B", "I") or label[:2] in ("B-", "I-"):
        return label[0]
    return ""


def _kind(label: str) -> str:
    return label[2:]


def entities_of(labels: Sequence[str], *, strict: bool = False) -> list[Entity]:
    """The entities of a sentence.

    Parameters
    ----------
    labels : sequence of str
        Of its words.
    strict : bool, default=False
        Whether words with "I-…" are part of an entity only where they continue one that begins
        with "B-…" of the same kind. Otherwise they begin one where there is none of their kind.

    Returns
    -------
    list of (str, int, int)
        Kind, first word and word behind the last of each.
    """
    entities: list[Entity] = []
    begin, kind = -1, ""  # of the entity that is open
    for number, label in enumerate([*labels, "O"]):
        part = _part(label)
        if not part:
            raise InputError(
                f'Labels of entities must be "O", "B", "B-…", "I" or "I-…", got '
                f"{shown(repr(label), 60)}."
            )
        if part == "I" and begin >= 0 and kind == _kind(label):
            continue
        if begin >= 0:
            entities.append((kind, begin, number))
            begin = -1
        if part == "B" or (part == "I" and not strict):
            begin, kind = number, _kind(label)
    return entities


def entity_f1(y_true: Any, y_pred: Any, *, mode: str = "default") -> float:
    """F1 of entities: those of which kind, first and last word are right, over all sentences.

    Equals seqeval's ``f1_score(y_true, y_pred)``, and with ``mode="strict"`` its
    ``f1_score(y_true, y_pred, mode="strict", scheme=IOB2)`` [1]_.

    Parameters
    ----------
    y_true, y_pred : list, array or Series
        Of sentences: lists of labels, one for each word, by the scheme BIO: ``"B-LOC"``,
        ``"I-LOC"``, ``"O"``, or ``"B"``, ``"I"``, ``"O"``.
    mode : {"default", "strict"}, default="default"
        Whether "I-…" begins an entity where there is none of its kind, as in CoNLL's own script, or
        is left out (strict).

    Returns
    -------
    float
        2 · right / (entities + entities found), in [0, 1]; 0 where there are none at all.

    Raises
    ------
    InputError
        If labels do not follow the scheme, or numbers of sentences or words differ.

    References
    ----------
    .. [1] H. Nakayama (2018). seqeval: A Python framework for sequence labeling evaluation.

    Examples
    --------
    >>> from sktransfer import entity_f1
    >>> true = [["B-PER", "I-PER", "O", "B-LOC"], ["O"]]
    >>> print(round(entity_f1(true, [["B-PER", "O", "O", "B-LOC"], ["O"]]), 2))
    0.5
    """
    if mode not in MODES:
        raise InputError(f'mode must be "default" or "strict", got {shown(repr(mode))}.')
    true, found = label_lists(y_true, "y_true"), label_lists(y_pred, "y_pred")
    check_lengths([len(one) for one in true], [len(one) for one in found], "predicted labels")
    n_right = n_all = 0
    for one, other in zip(true, found, strict=True):
        a, b = (set(entities_of(labels, strict=mode == "strict")) for labels in (one, other))
        n_right, n_all = n_right + len(a & b), n_all + len(a) + len(b)
    return 2 * n_right / n_all if n_all else 0.0


def check_lengths(
    n_words: Sequence[int], n_labels: Sequence[int], what: str = "labels"
) -> None:
    """Each word has one label.

    Raises
    ------
    InputError
        If one has not; names the first such sentence.
    """
    if len(n_words) != len(n_labels):
        raise InputError(
            f"There must be {what} for each sentence, got {len(n_words)} sentences and "
            f"{len(n_labels)} lists of {what}."
        )
    for number, (words, labels) in enumerate(zip(n_words, n_labels, strict=True)):
        if words != labels:
            raise InputError(
                f"Sentence {number} has {words} words but {labels} {what}; there must be one for "
                "each word."
            )


def check_sentences(sentences: Texts, labels: Sequence[Sequence[Any]]) -> list[int]:
    """How many words each sentence has, of which each has one label.

    Raises
    ------
    TextError
        If what has labels is no list of words.
    InputError
        If a word has no label, or a label no word.
    """
    n_words = [sentences.n_words(number) for number in range(len(sentences))]
    for number, (n, own) in enumerate(zip(n_words, labels, strict=False)):
        if own and not n:
            sentences.raw(number)  # says what is wrong with what is no list of words
    check_lengths(n_words, [len(one) for one in labels])
    return n_words


def score_of(labels: Sequence[Sequence[Any]], found: np.ndarray, scheme: str | None) -> float:
    """F1 of entities where the scheme is "BIO", else the share of words that are right.

    Raises
    ------
    InputError
        If there is no word.
    """
    if scheme == "BIO":
        return entity_f1(labels, found)
    right = [a == b for one, other in zip(labels, found, strict=True)
             for a, b in zip(one, other.tolist(), strict=True)]  # fmt: skip
    if not right:
        raise InputError("The sentences must have words, to be judged by, but have none.")
    return float(np.mean(right))


def as_objects(parts: Sequence[np.ndarray]) -> np.ndarray:
    """An array of objects with an array of each sentence, whatever their lengths."""
    found = np.empty(len(parts), dtype=object)
    for number, part in enumerate(parts):
        found[number] = part
    return found


def scheme_of(
    scheme: str | None, labels: Sequence[Sequence[Any]], flat: np.ndarray
) -> str | None:
    """Which scheme is meant by "auto", "BIO" or None for labels, of which `flat` has all kinds.

    Raises
    ------
    InputError
        If labels do not follow a scheme that is asked for.
    """
    kinds = np.unique(flat).tolist()
    if scheme == "auto":
        return "BIO" if follows_bio(kinds) and begins_with_b(labels) else None
    if scheme == "BIO" and not follows_bio(kinds):
        wrong = [one for one in kinds if not follows_bio(["B", one])]
        got = f"{shown(repr(wrong[0]), 60)}" if wrong else 'none with "B"'
        raise InputError(
            'With scheme="BIO" labels must be "O", "B-…" and "I-…", or "O", "B" and "I", got '
            f"{got}."
        )
    return scheme


# The best labels for a whole sentence.


@dataclass(frozen=True, eq=False)
class Transitions:
    """How likely labels follow each other, and which never do.

    Attributes
    ----------
    start : ndarray of shape (n_classes,)
        How much more often each label begins a sentence than it is there at all, as a logarithm;
        -inf for what must not be.
    between : ndarray of shape (n_classes, n_classes)
        The same for a label (column) behind another (row).
    """

    start: np.ndarray
    between: np.ndarray

    @classmethod
    def of(
        cls, sentences: Sequence[np.ndarray], classes: np.ndarray, *, weight: float, bio: bool
    ) -> Self:
        """Estimate them from labels.

        Parameters
        ----------
        sentences : sequence of int ndarray
            Numbers of the classes of the words of each.
        classes : ndarray of shape (n_classes,)
        weight : float
            Of what is estimated.
        bio : bool
            Whether the rules of BIO must hold.
        """
        n = len(classes)
        first = np.array([one[0] for one in sentences if len(one)], dtype=int)
        pairs = [one[:-1] * n + one[1:] for one in sentences if len(one)]
        every = np.concatenate([*sentences, np.empty(0, int)]).astype(int)
        usual = _log_shares(np.bincount(every, minlength=n))
        followed = np.concatenate([*pairs, np.empty(0, int)]).astype(int)
        followed = np.bincount(followed, minlength=n**2).reshape(n, n)
        start = weight * (_log_shares(np.bincount(first, minlength=n)) - usual)
        between = weight * (_log_shares(followed) - usual)
        if bio:
            start[~_may_follow("O", classes)] = -np.inf
            for number, label in enumerate(classes):
                between[number, ~_may_follow(label, classes)] = -np.inf
        return cls(start, between)

    def best_paths(self, scores: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
        """The labels of each sentence whose scores and transitions have the largest sum (Viterbi).

        Parameters
        ----------
        scores : ndarray of shape (n_words, n_classes)
            Logarithms of the probabilities of labels, of the words of all sentences; finite.
        lengths : sequence of int
            Words of each sentence; may be 0.

        Returns
        -------
        list of int ndarray
            Numbers of the classes of the words of each sentence.
        """
        ends = np.cumsum(lengths)
        # Sentences side by side, the longest first, so that those that go on are in front.
        order = np.argsort(-np.asarray(lengths), kind="stable")
        found: list[Any] = [np.empty(0, int)] * len(order)
        step = max(1, 2**22 // self.between.size)
        for some in (order[i : i + step] for i in range(0, len(order), step)):
            sizes = np.asarray(lengths)[some]
            paths = self._best_of(scores, ends[some] - sizes, sizes)
            for number, path, size in zip(some, paths, sizes, strict=True):
                found[number] = path[:size]
        return found

    def _best_of(self, scores: np.ndarray, first: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Paths of sentences, the longest of which is the first, in rows (n, longest)."""
        n, longest = len(sizes), int(sizes.max(initial=0))
        paths = np.zeros((n, longest), int)
        # How many sentences have a word of this number.
        alive = [int((sizes > number).sum()) for number in range(longest)]
        if not longest:
            return paths
        sums = self.start + scores[first[: alive[0]]]
        before = []
        for number, m in enumerate(alive[1:], start=1):
            through = sums[:m, :, None] + self.between
            before.append(through.argmax(1))
            # In place, so that sums of sentences that have ended stay.
            sums[:m] = through.max(1) + scores[first[:m] + number]
        best = sums.argmax(1)
        for number in range(longest - 1, -1, -1):
            m = alive[number]
            paths[:m, number] = best[:m]
            if number:
                best[:m] = before[number - 1][np.arange(m), best[:m]]
        return paths


def _log_shares(counts: np.ndarray) -> np.ndarray:
    """Logarithms of shares along the last axis, as if each had been seen once more."""
    counts = counts + 1.0
    return np.log(counts / counts.sum(-1, keepdims=True))


def _may_follow(label: str, classes: Collection[str]) -> np.ndarray:
    """Which labels BIO allows behind a label; "O" stands for the beginning of a sentence too."""
    inside = _part(label) in ("B", "I")
    return np.array(
        [_part(one) != "I" or (inside and _kind(one) == _kind(label)) for one in classes]
    )


def begins_with_b(sentences: Iterable[Sequence[str]]) -> bool:
    """Whether entities begin with "B-…", as in BIO, and not with "I-…", as in IOB1."""
    n_good = n_bad = 0
    for labels in sentences:
        for before, label in pairwise(["O", *labels]):
            n_good += _part(label) == "B"
            n_bad += _part(label) == "I" and not _may_follow(before, [label])[0]
    return n_good > n_bad
