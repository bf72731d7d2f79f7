"""The transformers of texts and of sentences that are split into words."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from .._parameters import (
    General,
    LayerCache,
    TextCodesParameters,
    TextCompute,
    TextInput,
    TextNetwork,
    TextPairs,
    TokenCodesParameters,
    parameters,
    values_of,
)
from .._sklearn import check_columns, fit_context
from ..compute import ComputeSettings, FrozenPass, normalize_rows, resolve_devices
from ..inputs import TextPreparation, Texts, as_texts, skipped
from ..networks import (
    TEXT_NETWORK,
    Backbone,
    Cuttable,
    Layer,
    TextBackboneInfo,
    check_given,
    given_of,
    load_text_backbone,
    text_cuts_of,
    text_preparation,
)
from ..store import open_store
from ._base import CodesBase, FittedCodes, RowCodes
from ._dask import first_items, is_lazy

__all__ = ["TextCodes", "TokenCodes"]


class ReadsTexts(CodesBase):
    """How transformers of texts load their network and read what it is shown."""

    weights: Any
    tokenizer: Any
    layer: Any
    normalize: str | None
    batch_tokens: Any

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Load the network; no text is computed.

        Parameters
        ----------
        X : list, tuple, array, Series, Arrow array or data frame of one column
            Of texts, as `transform` takes them. Of dask arrays, bags, series and data frames the
            first piece is computed.
        y : object, default=None
            Ignored.

        Returns
        -------
        self : object

        Raises
        ------
        InputError
            If `X` is not a collection of texts.
        BackboneError
            If the network, its weights or its layer cannot be loaded.
        """
        if is_lazy(X):
            X = first_items(X)
        texts = as_texts(X, split=self._split)
        resolve_devices(self.device)
        open_store(self.cache)
        network = self._load()
        cuts = self._cut(network)
        layers, pooling = self._layers_of(cuts), self._pooling_of(network)
        preparation = self._prepare(network)
        frozen = FrozenPass(cuts, layers, preparation, pooling)
        fitted = FittedCodes(
            layers=tuple(layer.name for layer in layers),
            columns=frozen.columns,
            pooling=pooling,
            preparation=preparation.facts,
            normalize=self.normalize,
            reading=texts.reading,
            given=given_of(self, self._deciding),
        )
        check_columns(self, X, reset=True)
        self._fitted = fitted
        self._network = None if network.portable else network
        self.backbone_ = TextBackboneInfo.of(network, self.weights)
        self.layers_ = list(fitted.layers)
        self.code_shape_ = self._shape_of(frozen)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Fit on the first piece of the texts, and check that further pieces look like it.

        Parameters
        ----------
        X : list, tuple, array, Series, Arrow array or data frame of one column
            As in `fit`.
        y : object, default=None
            Ignored.

        Returns
        -------
        self : object

        Raises
        ------
        InputError
            If `X` is not a collection of texts, or if a parameter that decides what the codes are
            was changed since.
        """
        if not hasattr(self, "backbone_"):
            return self.fit(X, y)
        check_given(self, self._fitted.given, "fit")
        self._items(first_items(X) if is_lazy(X) else X)
        return self

    # What texts and words differ in.

    @property
    @abstractmethod
    def _split(self) -> str:
        """What an item is: "texts", "pairs" or "words"."""

    @property
    @abstractmethod
    def _deciding(self) -> Sequence[str]:
        """Parameters that decide what the codes are."""

    @abstractmethod
    def _layers_of(self, cuts: Cuttable) -> tuple[Layer, ...]:
        """Where the network is cut."""

    @abstractmethod
    def _pooling_of(self, network: Backbone) -> str:
        """What is made of the tokens of a text, or of a word."""

    def _shape_of(self, frozen: FrozenPass) -> tuple[int, ...]:
        """Of the code of one item."""
        return frozen.shape

    # What the parameters come to.

    def _load(self) -> Backbone:
        return load_text_backbone(self.backbone, weights=self.weights, tokenizer=self.tokenizer)

    def _cut(self, network: Backbone) -> Cuttable:
        return text_cuts_of(network)

    def _prepare(self, network: Backbone) -> TextPreparation:
        return text_preparation(network, **values_of(self, TextInput), split=self._split)

    # What a fitted transformer computes.

    def _fitted_cut(self, network: Backbone) -> tuple[Cuttable, TextPreparation]:
        return text_cuts_of(network), text_preparation(network, **self._fitted.preparation)

    def _settings(self, **others: Any) -> ComputeSettings:
        size = None if self.batch_tokens == "auto" else self.batch_tokens
        return super()._settings(batch_size=size)

    def _items(self, X: Any) -> Texts:
        check_columns(self, X, reset=False)
        return self._fitted.reading.items(X)


@parameters
class TextCodes(
    ReadsTexts,
    RowCodes,
    General,
    LayerCache,
    TextPairs,
    TextCompute,
    TextInput,
    TextCodesParameters,
    TextNetwork,
    BaseEstimator,
):
    """Embeddings of texts from a pretrained language model, for any estimator.

    A transformer that was trained on a large corpus is cut behind one of its blocks; the mean of
    what it makes of the tokens of a text there, a row of some hundred numbers also called the
    embedding of the text, is the code. Nothing is learnt in `fit`; labels are not used.

    The code of a text is the same to the last bit whatever other texts are computed with it, on a
    CPU in float32 and with OpenVINO in bfloat16: texts of one number of tokens are computed
    together, so that none is filled up. In the bfloat16 of torch it differs by up to 1%.

    See Also
    --------
    TokenCodes : A code for every word.
    FineTuneTextClassifier : Fine-tune the same networks.

    References
    ----------
    .. [1] J. Devlin et al. (2019). BERT: Pre-training of deep bidirectional transformers for
       language understanding. NAACL. Section 5.3 (feature-based approach).
    .. [2] N. Reimers, I. Gurevych (2019). Sentence-BERT: Sentence embeddings using siamese
       BERT-networks. EMNLP. Section 3 (pooling).

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransfer import TextCodes
    >>> texts = ["a moving film", "dull and far too long", "warm, funny, wise", "a waste of time"]
    >>> pipe = make_pipeline(TextCodes(), LogisticRegression())
    >>> pipe.fit(texts, ["good", "bad", "good", "bad"]).predict(["a wonderful film"])
    array(['good'], dtype='<U4')
    """

    _title, _noun = "Text codes", "text"

    @property
    def _split(self) -> str:
        return "pairs" if self.pairs else "texts"

    @property
    def _deciding(self) -> Sequence[str]:
        return (*TEXT_NETWORK, "layer", "pooling", "normalize", "pairs")

    def _layers_of(self, cuts: Cuttable) -> tuple[Layer, ...]:
        return cuts.several(self.layer)

    def _pooling_of(self, network: Backbone) -> str:
        facts: Any = network.preprocessing
        return facts.pooled_by(self.pooling)


@parameters
class TokenCodes(
    ReadsTexts,
    General,
    LayerCache,
    TextCompute,
    TextInput,
    TokenCodesParameters,
    TextNetwork,
    BaseEstimator,
    auto_wrap_output_keys=None,  # type: ignore[call-arg]  # codes of sentences are no table
):
    """Codes of a pretrained language model for every word of a sentence.

    What a transformer makes of the tokens of a word, behind one of its blocks, is a code of the
    word in its sentence: features for labels of words, such as parts of speech or names, as those
    of ELMo were [1]_. Nothing is learnt in `fit`; labels are not used.

    Each word has one code, always. That of a word that the tokenizer leaves out, such as a
    zero-width space, or that `long_texts` cuts off is the mean of the codes of all others of the
    sentence, or, where none has any, of what the network adds to it, such as ``[CLS]``.
    Sentences that are longer than the network reads are read in windows; a token in two of them
    counts in the one in which it stands further from the edge. The codes of a sentence do not hang
    on what other sentences are computed with it, as those of `TextCodes` do not on other texts.

    See Also
    --------
    TokenLabeller : Labels for every word, by any classifier on these codes.
    TextCodes : One code for a text.

    References
    ----------
    .. [1] M. Peters et al. (2018). Deep contextualized word representations. NAACL.
    .. [2] J. Devlin et al. (2019). BERT: Pre-training of deep bidirectional transformers for
       language understanding. NAACL. Section 5.3 (feature-based approach).

    Examples
    --------
    >>> from sktransfer import TokenCodes
    >>> sentences = [["Ann", "lives", "in", "Reykjavik"], ["Hello", "!"]]
    >>> [codes.shape for codes in TokenCodes().fit_transform(sentences)]
    [(4, 384), (2, 384)]
    """

    _title, _noun = "Token codes", "sentence"

    def transform(self, X: Any) -> np.ndarray:
        """Compute the codes of all words of sentences.

        Parameters
        ----------
        X : list, array, Series or Arrow array
            Of sentences: lists of words, which are str.

        Returns
        -------
        codes : ndarray of object, shape (n_sentences,)
            For each sentence an array (n_words, n_features), float32. ``np.concatenate(codes)``
            puts the words of all sentences below each other.

        Raises
        ------
        TextError
            If a sentence is missing or no list of str, unless ``on_error="nan"``; then its words,
            as far as there are any, have codes of NaN.
        """
        check_is_fitted(self, "backbone_")
        sentences = self._items(X)
        _, preparation = self._fitted_cut(self._load_network())
        fitted, width = self._fitted, self.code_shape_[1]
        out = _WordCodes(sentences, preparation, fitted.pooling, width, fitted.normalize)
        n_words = sum(map(sentences.n_words, range(len(sentences))))
        # A token is what the store keeps rows of; a word has 1.3 or so, a sentence two more.
        errors = self._fill(sentences, out, 2 * (n_words + len(sentences)))
        if errors:
            warnings.warn(skipped(errors, len(sentences)), stacklevel=2)
        return out.codes

    @property
    def _split(self) -> str:
        return "words"

    @property
    def _deciding(self) -> Sequence[str]:
        return (*TEXT_NETWORK, "layer", "words", "normalize")

    def _layers_of(self, cuts: Cuttable) -> tuple[Layer, ...]:
        if self.layer != "auto":
            return cuts.several(self.layer)
        every = cuts.listed()
        return (every[len(every) // 2],)

    def _pooling_of(self, network: Backbone) -> str:
        return self.words

    def _shape_of(self, frozen: FrozenPass) -> tuple[int, ...]:
        return (-1, *frozen.shape)

    def _frozen(self) -> FrozenPass:
        """All tokens, of which those of each word are pooled here."""
        frozen = super()._frozen()
        return frozen.at(frozen.layers, None)


class _WordCodes:
    """Takes what a pass makes of the tokens of each sentence, and keeps a code for every word.

    Parameters
    ----------
    sentences : Texts
    preparation : TextPreparation
        Says of each token of which word it is.
    words : {"avg", "first", "last"}
    width : int
        Of a code, of all layers together.
    normalize : str or None

    Attributes
    ----------
    codes : ndarray of object, shape (n_sentences,)
    """

    def __init__(
        self,
        sentences: Texts,
        preparation: TextPreparation,
        words: str | None,
        width: int,
        normalize: str | None,
    ):
        self._sentences, self._preparation, self._words = sentences, preparation, words
        self._width, self._normalize = width, normalize
        self.codes = np.empty(len(sentences), dtype=object)

    def __setitem__(self, row: int, parts: Any) -> None:
        n_words = self._sentences.n_words(row)
        if np.isscalar(parts) or not n_words:  # NaN where it could not be read
            self.codes[row] = np.full((n_words, self._width), np.nan, np.float32)
            return
        numbers = self._preparation(self._sentences.open(row))[..., 2]
        layers = parts if isinstance(parts, tuple) else (parts,)
        codes = [pool_words(one, numbers, n_words, self._words) for one in layers]
        self.codes[row] = normalize_rows(np.concatenate(codes, axis=1), self._normalize)


def pool_words(
    tokens: np.ndarray, numbers: np.ndarray, n_words: int, how: str | None
) -> np.ndarray:
    """Make a row of the tokens of each word.

    Parameters
    ----------
    tokens : ndarray of shape (n_windows, n_tokens, width), float32
    numbers : ndarray of int, shape (n_windows, n_tokens)
        Of the word of each token, from 1; the words of a sentence are in order. 0 are special
        tokens, -1 tokens that count in another window.
    n_words : int
    how : {"avg", "first", "last"}

    Returns
    -------
    ndarray of shape (n_words, width), float32
        Words without tokens have the mean of those that have some, or of the special tokens.
    """
    tokens, numbers = tokens.reshape(-1, tokens.shape[-1]), numbers.reshape(-1)
    of_words = numbers > 0
    if not of_words.any():
        return np.tile(_mean(tokens[numbers == 0]), (n_words, 1))
    rows = tokens[of_words]
    found, first, count = np.unique(numbers[of_words], return_index=True, return_counts=True)
    if how == "avg":
        sums = np.add.reduceat(rows, first, axis=0, dtype=np.float64)
        pooled = (sums / count[:, None]).astype(np.float32)
    else:
        pooled = rows[first if how == "first" else first + count - 1]
    if len(found) == n_words:
        return pooled
    codes = np.tile(_mean(pooled), (n_words, 1))
    codes[found - 1] = pooled
    return codes


def _mean(rows: np.ndarray) -> np.ndarray:
    return rows.mean(0, dtype=np.float64).astype(np.float32)
