"""The transformers of texts."""

from __future__ import annotations

from typing import Any, Self

from sklearn.base import BaseEstimator

from .._parameters import (
    General,
    LayerCache,
    TextCodesParameters,
    TextCompute,
    TextInput,
    TextNetwork,
    TextPairs,
    parameters,
)
from .._sklearn import check_columns, fit_context
from ..compute import ComputeSettings, FrozenPass, resolve_devices
from ..inputs import TextPreparation, Texts, as_texts
from ..networks import (
    TEXT_NETWORK,
    Backbone,
    Cuttable,
    TextBackboneInfo,
    check_given,
    given_of,
    load_text_backbone,
    text_cuts_of,
    text_preparation,
)
from ..store import open_store
from ._base import CodesBase, FittedCodes
from ._dask import first_items, is_lazy

__all__ = ["TextCodes"]


# Parameters that decide what the codes are.
_OF_CODES = (*TEXT_NETWORK, "layer", "pooling", "normalize", "pairs")


@parameters
class TextCodes(
    CodesBase,
    General,
    LayerCache,
    TextPairs,
    TextCompute,
    TextInput,
    TextCodesParameters,
    TextNetwork,
    BaseEstimator,
):
    """Codes of a pretrained language model as features for any estimator.

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

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Load the network; no text is computed.

        Parameters
        ----------
        X : list, tuple, array, Series, Arrow array or data frame of one column
            Of str; with `pairs` of two columns, or a list of pairs. Of dask arrays, bags, series
            and data frames the first piece is computed.
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
        texts = as_texts(X, split="pairs" if self.pairs else "texts")
        resolve_devices(self.device)
        open_store(self.cache)
        network = self._load()
        cuts = self._cut(network)
        layers = cuts.several(self.layer)
        preparation = self._prepare(network)
        pooling = self.pooling
        if pooling == "auto":
            facts: Any = network.preprocessing
            pooling = facts.pooling or "avg"
        frozen = FrozenPass(cuts, layers, preparation, pooling)
        fitted = FittedCodes(
            layers=tuple(layer.name for layer in layers),
            columns=frozen.columns,
            pooling=pooling,
            preparation=preparation.facts,
            normalize=self.normalize,
            reading=texts.reading,
            given=given_of(self, _OF_CODES),
        )
        check_columns(self, X, reset=True)
        self._fitted = fitted
        self._network = None if network.portable else network
        self.backbone_ = TextBackboneInfo.of(network, self.weights)
        self.layers_ = list(fitted.layers)
        self.code_shape_ = frozen.shape
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

    # What the parameters come to.

    def _load(self) -> Backbone:
        return load_text_backbone(self.backbone, weights=self.weights, tokenizer=self.tokenizer)

    def _cut(self, network: Backbone) -> Cuttable:
        return text_cuts_of(network)

    def _prepare(self, network: Backbone) -> TextPreparation:
        return text_preparation(
            network,
            max_tokens=self.max_tokens,
            long_texts=self.long_texts,
            stride=self.stride,
            prompt=self.prompt,
            split="pairs" if self.pairs else "texts",
        )

    # What a fitted transformer computes.

    def _fitted_cut(self, network: Backbone) -> tuple[Cuttable, TextPreparation]:
        return text_cuts_of(network), text_preparation(network, **self._fitted.preparation)

    def _settings(self, **others: Any) -> ComputeSettings:
        size = None if self.batch_tokens == "auto" else self.batch_tokens
        return super()._settings(batch_size=size)

    def _items(self, X: Any) -> Texts:
        check_columns(self, X, reset=False)
        return self._fitted.reading.items(X)
