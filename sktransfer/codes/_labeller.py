"""Labels for every word, by any classifier on codes of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from .._parameters import param, parameters
from .._sklearn import HasMethods, Integral, Interval, Real, fit_context
from ..exceptions import InputError
from ..inputs import as_texts, name_of
from ._base import check_classifies, refuse_regressor
from ._sequences import (
    Transitions,
    as_objects,
    check_sentences,
    label_lists,
    one_kind_of_labels,
    scheme_of,
    score_of,
)

__all__ = ["TokenLabeller"]


# No label is less likely than that, whatever a classifier says, so that paths can be compared.
_LEAST = 1e-12


def _gives_probabilities(labeller: Any) -> bool:
    return hasattr(getattr(labeller, "estimator_", labeller.estimator), "predict_proba")


@parameters
class TokenLabeller(MetaEstimatorMixin, BaseEstimator):
    """Labels for every word of a sentence, by any classifier on codes of words.

    All words of all sentences are rows for a classifier, as in the feature-based approach of ELMo
    and BERT [1]_ [2]_. What it says of each word and what labels follow each other in training
    then decide together on the labels of a sentence, by the algorithm of Viterbi [3]_. Where labels
    are those of entities, in the scheme BIO, what is found is always a sequence that the scheme
    allows.

    Sentences are what is drawn, split and grouped: `X` and `y` have an item for each sentence, so
    that cross-validation never puts words of one sentence into two folds. The codes of a sentence
    are computed once, whatever folds and candidates of a search it is in.

    Attributes
    ----------
    codes_ : transformer
        Fitted.
    estimator_ : classifier
        Fitted on the words of all sentences.
    classes_ : ndarray of shape (n_classes,)
        The labels.
    scheme_ : "BIO" or None
        Which `scheme` was found, or given.

    See Also
    --------
    TokenCodes : Codes of words.
    entity_f1 : The score where labels are those of entities.

    Notes
    -----
    A path scores, word by word, the logarithm of the probability that the classifier gives the
    label, plus `transition_weight` times that of how much more often the label follows the one
    before it than it is there at all: P(label | label before) / P(label), which is the factor that
    a hidden Markov model puts between posterior probabilities. Each transition counts as if it
    had been seen once more than it was.

    References
    ----------
    .. [1] M. Peters et al. (2018). Deep contextualized word representations. NAACL.
    .. [2] J. Devlin et al. (2019). BERT: Pre-training of deep bidirectional transformers for
       language understanding. NAACL. Section 5.3 (feature-based approach).
    .. [3] L. Rabiner (1989). A tutorial on hidden Markov models and selected applications in
       speech recognition. Proceedings of the IEEE 77(2).

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sktransfer import TokenCodes, TokenLabeller
    >>> from sktransfer.datasets import load_addresses_sample
    >>> words, labels = load_addresses_sample(return_X_y=True)
    >>> labeller = TokenLabeller(TokenCodes(), LogisticRegression(max_iter=1000))
    >>> labeller = labeller.fit(words[:60], labels[:60])
    >>> labeller.predict([["12", "Elm", "Street", "Chicago"], []])
    array([array(['AddressNumber', 'StreetName', 'StreetNamePostType', 'PlaceName'],
                 dtype='<U25')                                                      ,
           array([], dtype='<U25')], dtype=object)
    """

    codes: Any = param(
        valid=[HasMethods(["fit", "transform"])], kw_only=False, type="transformer", doc="""
        :class:`TokenCodes`, or any transformer that makes an array (n_words, n_features) of each
        sentence.""")
    estimator: Any = param(
        valid=[HasMethods(["fit", "predict"])], kw_only=False, type="classifier", doc="""
        What is fitted on words; a clone is. With ``decode="viterbi"`` it must have `predict_proba`
        or `decision_function`, whose softmax is taken.""")
    neighbours: int = param(
        default=1, valid=[Interval(Integral, 0, None, closed="left")], type="int", doc="""
        So many words to the left and to the right of a word whose codes stand beside its own;
        zeros beyond the ends of a sentence.""")
    decode: str = param(default="viterbi", choices=("viterbi", "independent"), doc="""
        Whether the labels of a sentence are found together, or those of each word by
        ``estimator.predict``.""")
    scheme: str | None = param(
        default="auto", choices=("auto", "BIO"), valid=[None], type="None", doc="""
        With "BIO", ``"I-X"`` is found behind ``"B-X"`` and ``"I-X"`` alone, and `score` is that of
        entities. "auto" is "BIO" where labels are "O", "B-…" and "I-…", or "B" and "I", and
        entities begin with "B".""")
    transition_weight: float = param(
        default=0.5, valid=[Interval(Real, 0, None, closed="left")], type="float", doc="""
        How much counts with ``decode="viterbi"`` which labels follow each other in training: 1
        would be right if the codes of a word knew nothing of its neighbours; 0 leaves the rules of
        `scheme` alone.""")

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any) -> Self:
        """Compute the codes of all words, and fit the classifier.

        Parameters
        ----------
        X : list, array, Series or Arrow array
            Of sentences: lists of words.
        y : list, array, Series or Arrow array
            Of lists of labels, one for each word: str, numbers or bools.

        Returns
        -------
        self : object

        Raises
        ------
        TextError
            If a sentence is missing or no list of words; says which.
        InputError
            If a sentence has not as many labels as words, or a label is missing; says which.
        """
        labels = label_lists(y)
        n_words = check_sentences(as_texts(X, split="words"), labels)
        flat = one_kind_of_labels(labels)
        scheme = scheme_of(self.scheme, labels, flat)
        estimator = clone(self.estimator)
        refuse_regressor(estimator)
        codes = clone(self.codes).fit(X)
        estimator.fit(self._features(codes, X, n_words, self.neighbours), flat)
        check_classifies(estimator)
        transitions = None
        if self.decode == "viterbi":
            _check_gives_scores(estimator)
            numbers = np.searchsorted(estimator.classes_, flat)
            transitions = Transitions.of(
                np.split(numbers, np.cumsum(n_words)[:-1]),
                estimator.classes_,
                weight=self.transition_weight,
                bio=scheme == "BIO",
            )
        self.codes_, self.estimator_ = codes, estimator
        self.classes_, self.scheme_ = estimator.classes_, scheme
        self._transitions, self._neighbours = transitions, self.neighbours
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict the labels of all words.

        Parameters
        ----------
        X : list, array, Series or Arrow array
            Of sentences: lists of words.

        Returns
        -------
        labels : ndarray of object, shape (n_sentences,)
            For each sentence an array (n_words,) of labels.
        """
        check_is_fitted(self, "estimator_")
        n_words = self._n_words(X)
        features = self._features(self.codes_, X, n_words, self._neighbours)
        if not len(features):
            found = self.classes_[:0]
        elif self._transitions is None:
            found = self.estimator_.predict(features)
        else:
            scores = _log_probabilities(self.estimator_, features)
            found = self.classes_[np.concatenate(self._transitions.best_paths(scores, n_words))]
        return _by_sentence(found, n_words)

    @available_if(_gives_probabilities)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Tell the probabilities that the classifier gives each word, before they are decoded.

        Parameters
        ----------
        X : list, array, Series or Arrow array
            Of sentences: lists of words.

        Returns
        -------
        probabilities : ndarray of object, shape (n_sentences,)
            For each sentence an array (n_words, n_classes), in the order of `classes_`.
        """
        check_is_fitted(self, "estimator_")
        n_words = self._n_words(X)
        features = self._features(self.codes_, X, n_words, self._neighbours)
        found = np.empty((0, len(self.classes_)))
        if len(features):
            found = self.estimator_.predict_proba(features)
        return _by_sentence(found, n_words)

    def score(self, X: Any, y: Any) -> float:
        """F1 of the predicted entities, or the accuracy over words.

        Parameters
        ----------
        X : list, array, Series or Arrow array
            Of sentences: lists of words.
        y : list, array, Series or Arrow array
            Of lists of labels, one for each word.

        Returns
        -------
        float
            :func:`entity_f1` where `scheme_` is "BIO", else the accuracy over all words.
        """
        check_is_fitted(self, "estimator_")
        labels = label_lists(y)
        check_sentences(as_texts(X, split="words"), labels)
        return score_of(labels, self.predict(X), self.scheme_)

    @staticmethod
    def _n_words(X: Any) -> list[int]:
        """How many words each sentence has."""
        sentences = as_texts(X, split="words")
        return [sentences.n_words(i) for i in range(len(sentences))]

    @staticmethod
    def _features(
        codes: Any, X: Any, n_words: Sequence[int], neighbours: int
    ) -> np.ndarray:
        """What the classifier sees of all words, those of the first sentence first."""
        rows = codes.transform(X)
        if len(rows) != len(n_words):
            raise InputError(
                f"codes must make an array of each of {len(n_words)} sentences, but "
                f"{name_of(codes)} made {len(rows)}."
            )
        arrays = [np.asarray(one) for one in rows]
        for number, (one, n) in enumerate(zip(arrays, n_words, strict=True)):
            if one.ndim != 2 or len(one) != n:
                raise InputError(
                    f"Sentence {number} has {n} words: codes must make an array ({n}, n_features) "
                    f"of it, but {name_of(codes)} made one of shape {one.shape}."
                )
        return _with_neighbours(np.concatenate(arrays), n_words, neighbours)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.target_tags.required = True
        return tags


def _with_neighbours(rows: np.ndarray, n_words: Sequence[int], k: int) -> np.ndarray:
    """Rows of words with those of k words to the left before them, and to the right behind."""
    if not k:
        return rows
    sizes = np.repeat(n_words, n_words)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(n_words) - n_words, n_words)
    wide = np.zeros((len(rows), 2 * k + 1, rows.shape[1]), rows.dtype)
    for shift in range(-k, k + 1):
        there = np.flatnonzero((places + shift >= 0) & (places + shift < sizes))
        wide[there, k + shift] = rows[there + shift]
    return wide.reshape(len(rows), (2 * k + 1) * rows.shape[1])


def _check_gives_scores(estimator: Any) -> None:
    if not (hasattr(estimator, "predict_proba") or hasattr(estimator, "decision_function")):
        raise InputError(
            'With decode="viterbi" estimator must have predict_proba or decision_function, but '
            f'{name_of(estimator)} has neither. Take decode="independent".'
        )


def _log_probabilities(estimator: Any, features: np.ndarray) -> np.ndarray:
    """What a classifier says of words, (n_words, n_classes)."""
    if hasattr(estimator, "predict_proba"):
        return np.log(np.maximum(estimator.predict_proba(features), _LEAST))
    scores = np.asarray(estimator.decision_function(features), dtype=np.float64)
    if scores.ndim == 1:  # of two classes, that of the second
        scores = np.stack([np.zeros_like(scores), scores], axis=1)
    scores -= scores.max(axis=1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return np.maximum(scores, np.log(_LEAST))


def _by_sentence(rows: np.ndarray, n_words: Sequence[int]) -> np.ndarray:
    """An array of objects with the rows of the words of each sentence."""
    return as_objects(np.split(rows, np.cumsum(n_words)[:-1]))
