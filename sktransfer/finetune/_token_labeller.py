"""Networks for text that are fine-tuned to label every word."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._parameters import ClassifierLoss, changed, param, parameters
from .._sklearn import Interval, Real, StrOptions, fit_context
from ..codes import as_objects, check_sentences, label_lists, score_of
from ..compute import usable_devices
from ..inputs import Texts
from ..networks import TEXT_NETWORK, Backbone
from ._targets import check_balanced
from ._text import WORDS, ReadsTexts
from ._words import Words, rows_of_words

__all__ = ["FineTuneTokenLabeller"]


@parameters
class FineTuneTokenLabeller(ReadsTexts, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Fine-tune a pretrained language model to label every word of a sentence.

    A new output layer stands on the mean of what the network makes of the tokens of each word [1]_.
    It starts from a linear classifier of these codes; then it and the last blocks train on. Each
    word has a label, also those that the tokenizer leaves out; sentences that are longer than the
    network reads are read in windows. The labels of a sentence are found together, and where they
    are those of entities, in the scheme BIO, they are always a sequence that the scheme allows.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    scheme_ : "BIO" or None
        Which `scheme` was found, or given.

    See Also
    --------
    sktransfer.TokenLabeller : Any classifier on codes of words of a frozen network.
    sktransfer.entity_f1 : The score where labels are those of entities.

    References
    ----------
    .. [1] J. Devlin et al. (2019). BERT: Pre-training of deep bidirectional transformers for
       language understanding. NAACL. Section 5.3.

    Examples
    --------
    >>> from sktransfer import FineTuneTokenLabeller
    >>> from sktransfer.datasets import load_addresses_sample
    >>> words, labels = load_addresses_sample(return_X_y=True)
    >>> labeller = FineTuneTokenLabeller(trainable=1, max_epochs=1, random_state=0)
    >>> labeller.fit(words[:60], labels[:60]).predict([["12", "Elm", "Street"], []])[0].shape
    (3,)
    """

    decode: str = param(default="viterbi", choices=("viterbi", "independent"), doc="""
        Whether the labels of a sentence are found together, or those of each word by itself.""")
    scheme: str | Literal["auto"] | None = param(
        default="auto", valid=[StrOptions({"auto", "BIO"}), None], type='"auto", "BIO" or None',
        doc="""
        With "BIO", ``"I-X"`` is found behind ``"B-X"`` and ``"I-X"`` alone, and `score` is that of
        entities. "auto" is "BIO" where labels are "O", "B-…" and "I-…", or "B" and "I", and
        entities begin with "B".""")
    transition_weight: float = param(
        default=1.0, valid=[Interval(Real, 0, None, closed="left")], type="float", doc="""
        How much counts with ``decode="viterbi"`` which labels follow each other in training, beside
        how often each is there at all; 0 leaves the rules of `scheme` alone.""")
    class_weight: dict[Any, float] | Literal["balanced"] | None = param(
        default=None, valid=[dict, StrOptions({"balanced"}), None],
        type='dict, "balanced" or None', doc="""
        Weights of the labels of words in the loss; "balanced" makes them inversely proportional
        to how often each is there, so that rare labels are found more often, and more often
        wrongly. How labels follow each other (``decode="viterbi"``) is counted without weights.""")
    label_smoothing: float = changed(ClassifierLoss, "label_smoothing", default=0.0, doc="""
        Share of the target that is spread over all classes, in [0, 1).""")

    _given = (*TEXT_NETWORK, "scheme", "transition_weight")

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one more epoch, on these sentences.

        Parameters
        ----------
        X : list, array, Series or Arrow array
            As in `fit`.
        y : list, array, Series or Arrow array
            As in `fit`.
        classes : array-like, default=None
            All labels there are; needed in the first call if `y` has not all of them.
        sample_weight : array-like of shape (n_samples,), default=None
            As in `fit`.

        Returns
        -------
        self : object
        """
        check_balanced(self.class_weight, vars(self).get("_fitted"))
        return self._fit(X, y, sample_weight, classes=classes, continues=True, epochs=1)

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
        scores = self._outputs(X)
        return as_objects(self._task.decoded(scores, together=self.decode == "viterbi"))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probabilities of the labels of each word, before decoding.

        Parameters
        ----------
        X : list, array, Series or Arrow array
            Of sentences: lists of words.

        Returns
        -------
        probabilities : ndarray of object, shape (n_sentences,)
            For each sentence an array (n_words, n_classes), in the order of `classes_`.
        """
        return as_objects([self._task.predict_proba(one) for one in self._outputs(X)])

    def transform(self, X: Any) -> np.ndarray:
        """Compute the fine-tuned codes of all words: what goes into the head.

        Parameters
        ----------
        X : list, array, Series or Arrow array
            Of sentences: lists of words.

        Returns
        -------
        codes : ndarray of object, shape (n_sentences,)
            For each sentence an array (n_words, n_codes), float32.
        """
        return self._outputs(X, codes=True)

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
            :func:`sktransfer.entity_f1` where `scheme_` is "BIO", else the accuracy over all
            words.
        """
        check_is_fitted(self, "backbone_")
        self._check_targets(self._items(X), y, "y")
        return score_of(label_lists(y), self.predict(X), self.scheme_)

    @property
    def classes_(self) -> np.ndarray:
        return self._task.classes

    @property
    def scheme_(self) -> str | None:
        return self._task.scheme

    @property
    def _split(self) -> str:
        return "words"

    def _pooling(self, backbone: Backbone) -> str:
        return WORDS

    def _encode(
        self, y: Any, items: Any, before: Words | None, classes: Any, name: str
    ) -> tuple[Words, np.ndarray]:
        if before is None:
            task, target = Words.of_sentences(
                y, classes, name, scheme=self.scheme, transition_weight=self.transition_weight,
                label_smoothing=self.label_smoothing,
            )  # fmt: skip
        else:
            if classes is not None:
                before.check_classes(classes)
            task, target = before, before.encode(y, items, name)
        if name == "y" or not isinstance(self.class_weight, str):  # a piece has not all labels
            task = task.weighted(self.class_weight, target)
        return task, target

    def _check_targets(self, items: Texts, y: Any, name: str) -> None:
        check_sentences(items, label_lists(y, name))

    def _outputs(self, X: Any, *, codes: bool = False) -> Any:
        """What the head gives for each word of a sentence, or what goes into it."""
        check_is_fitted(self, "backbone_")
        items, model = self._items(X), self._load_model()
        prefix = self._frozen_pass(self._fitted, usable_devices(self.device))
        found = np.empty(len(items), dtype=object)
        for numbers, chunk in model.in_chunks(prefix, items, codes=codes):
            for number, rows in zip(numbers, chunk, strict=True):
                found[number] = rows_of_words(rows, items.n_words(number))
        return found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags
