"""Networks for text that are fine-tuned."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from .._parameters import (
    TextInput,
    TextNetwork,
    TextPairs,
    TextPooling,
    TextTraining,
    parameters,
    values_of,
)
from ..compute import FrozenPass, batch_tokens, copies_of_few
from ..inputs import Items, TextPreparation, Texts, as_texts
from ..networks import (
    TEXT_NETWORK,
    Backbone,
    BackboneInfo,
    Cuttable,
    TextBackboneInfo,
    load_text_backbone,
    text_cuts_of,
    text_preparation,
)
from ._answers import FineTunedClassifier, FineTunedRegressor
from ._base import FineTuneBase, Fitted
from ._callbacks import Mixup, named_callbacks
from ._model import Cut, FineTuneModule, RowDesign, in_dtype_of
from ._rows import PADDING, TextBatch, rows_of
from ._tasks import Task
from ._training import Part
from ._while_learning import AttentionByProducts

__all__ = ["WORDS", "FineTuneTextClassifier", "FineTuneTextRegressor", "ReadsTexts"]


class ReadsTexts(FineTuneBase, TextTraining, TextInput, TextNetwork):
    """What goes in are texts, pairs of them, or sentences that are split into words."""

    @property
    @abstractmethod
    def _split(self) -> str:
        """What an item is, as :func:`as_texts` has it."""

    @abstractmethod
    def _pooling(self, backbone: Backbone) -> str:
        """From the tokens of an item to a row, or to rows of its words."""

    def _first_items(self, X: Any) -> Texts:
        return as_texts(X, split=self._split)

    def _check_part(self, part: Part) -> None:
        if any(isinstance(one, Mixup) for _, one in named_callbacks(self.callbacks)):
            raise ValueError(
                "callbacks= must not hold Mixup, which blends two images of one size; texts have "
                "different lengths."
            )

    def _load(self) -> Backbone:
        return load_text_backbone(self.backbone, weights=self.weights, tokenizer=self.tokenizer)

    def _prepare(self, backbone: Backbone, items: Texts) -> dict[str, Any]:
        prepared = text_preparation(backbone, **values_of(self, TextInput), split=self._split)
        return prepared.facts

    def _preparation(self, fitted: Fitted, backbone: Backbone) -> TextPreparation:
        return text_preparation(backbone, **fitted.preparation)

    def _cut(self, backbone: Backbone, preparation: Any = None) -> Cuttable:
        return text_cuts_of(backbone)

    def _design(self, backbone: Backbone, task: Task, seed: int) -> TextDesign:
        pooling = self._pooling(backbone)
        return TextDesign.of(self, pooling=pooling, n_outputs=task.n_outputs, seed=seed)

    def _facts(self, fitted: Fitted) -> dict[str, Any]:
        return {"the tokenizer": self._preparation(fitted, fitted.model.backbone).digest}

    def _info(self, backbone: Backbone) -> BackboneInfo:
        return TextBackboneInfo.of(backbone, self.weights)


class FineTuneTexts(ReadsTexts, TextPooling, TextPairs):
    """What goes in are texts, or pairs of them, each of which has one row."""

    _given = (*TEXT_NETWORK, "pooling", "pairs")

    @property
    def _split(self) -> str:
        return "pairs" if self.pairs else "texts"

    def _pooling(self, backbone: Backbone) -> str:
        facts: Any = backbone.preprocessing
        return facts.pooled_by(self.pooling)


@parameters
class FineTuneTextClassifier(FineTunedClassifier, FineTuneTexts):
    """Fine-tune a pretrained language model to classify texts.

    A transformer that was trained on a large corpus gets a new output layer on the mean of what it
    makes of the tokens of a text; it starts from a linear classifier on these codes [1]_, and then
    it and the last blocks train on, the pretrained ones gently [2]_. What is frozen is computed
    once for each text, whatever the number of epochs, folds and candidates. Long texts are trained
    on whole, in windows.

    See Also
    --------
    sktransfer.TextCodes : Codes of a frozen network, for any classifier.
    FineTuneTextRegressor : The same for numbers.
    FineTuneClassifier : The same for images.

    References
    ----------
    .. [1] A. Kumar et al. (2022). Fine-tuning can distort pretrained features and underperform
       out-of-distribution. ICLR.
    .. [2] J. Howard, S. Ruder (2018). Universal language model fine-tuning for text
       classification. ACL. Section 3.2.

    Examples
    --------
    >>> from sktransfer import FineTuneTextClassifier
    >>> from sktransfer.datasets import load_film_sentences_sample
    >>> X, y = load_film_sentences_sample(return_X_y=True)
    >>> clf = FineTuneTextClassifier(trainable=1, max_epochs=1, random_state=0)
    >>> bool(clf.fit(X[:60], y[:60]).score(X[:60], y[:60]) > 0.8)
    True
    """


@parameters
class FineTuneTextRegressor(FineTunedRegressor, FineTuneTexts):
    """Fine-tune a pretrained language model for regression on texts.

    As :class:`FineTuneTextClassifier`, with squared errors in the place of cross-entropy. Targets
    are standardised for learning; the head starts from ridge regression on the codes.

    See Also
    --------
    FineTuneTextClassifier : The same for labels.

    Examples
    --------
    >>> from sktransfer import FineTuneTextRegressor
    >>> from sktransfer.datasets import load_film_sentences_sample
    >>> films = load_film_sentences_sample()
    >>> X, ratings = films.data[:60], films.ratings[:60]
    >>> reg = FineTuneTextRegressor(trainable=1, max_epochs=1, random_state=0)
    >>> bool(reg.fit(X, ratings).score(X, ratings) > 0.3)
    True
    """


# The network that is trained.


@dataclass(frozen=True, kw_only=True)
class TextDesign(RowDesign):
    """The parameters that decide what a network for text is."""

    pooling: str

    def module(self, backbone: Backbone, tail: nn.Module, cut: Cut, head: nn.Module) -> TextModule:
        return TextModule(tail, head, self.pooling, width=cut.end.n_channels)


class TextModule(FineTuneModule):
    """What is trained of a network for text, behind what is frozen.

    Parameters
    ----------
    tail : torch.nn.Module
        Takes activations, or tokens, and a mask.
    head : torch.nn.Module
    pooling : str
        From the tokens of all windows of a text to a row.
    width : int
        Numbers in a row.
    """

    def __init__(self, tail: nn.Module, head: nn.Module, pooling: str, width: int):
        super().__init__(tail, head)
        self.pooling, self.width = pooling, width
        self.takes_pooled = pooling != WORDS

    def codes(self, activations: Any) -> torch.Tensor:
        if isinstance(activations, torch.Tensor):  # pooled where they were made
            return activations.float()
        batch: TextBatch = activations
        values = batch.values
        if not len(batch):
            places = (batch.n_words + 1,) * (self.pooling == WORDS)
            return values.new_zeros((0, *places, self.width), dtype=torch.float32)
        if values.is_floating_point():
            values = values.float()
        if isinstance(self.tail, nn.Identity):
            return pool_windows(values, batch, self.pooling)
        mask = (batch.words > PADDING).int()
        times = 1 if self.training else copies_of_few(mask.numel())
        if times > 1:
            values = values.repeat(times, 1, *[1] * (values.ndim - 2))
        hidden = self._hidden(values, mask.repeat(times, 1))[: len(mask)]
        return pool_windows(hidden.float(), batch, self.pooling)

    def _hidden(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """What the tail makes of windows; of some at a time where no gradients keep them all."""
        if self.training:
            on_cpu = values.device.type == "cpu"
            with AttentionByProducts() if on_cpu else nullcontext():
                return self.tail(values, mask)
        most = batch_tokens(values.device) // mask.shape[1]
        parts = zip(values.split(max(1, most)), mask.split(max(1, most)), strict=True)
        return torch.cat([self.tail(one, there) for one, there in parts])

    def answers(self, head: nn.Module, codes: torch.Tensor) -> torch.Tensor:
        """One by one: what is said of a text is the same to the last bit, alone or not."""
        codes = in_dtype_of(head, codes)
        rows = [head(row) for row in codes.flatten(0, -2).split(1)]
        return torch.cat(rows).view(*codes.shape[:-1], -1)

    def first_codes(self, prefix: FrozenPass, items: Items) -> Any:
        if self.takes_pooled:
            return prefix.rows(items)
        rows = rows_of(items, prefix.at(prefix.layers, None), prefix.dtype)
        found = np.empty(len(items), object)
        for numbers in rows.alike(torch.device("cpu")):
            batch = rows.take(numbers)
            found[numbers] = [*pool_words(batch.values, batch).numpy()]
        return found


def pool_windows(hidden: torch.Tensor, batch: TextBatch, pooling: str) -> torch.Tensor:
    """Pool (n_windows, n_tokens, width) over the tokens of all windows of each text.

    As codes of texts are pooled: each token counts once, in the window that counts it.

    Parameters
    ----------
    hidden : Tensor
    batch : TextBatch
    pooling : {"avg", "avg_all", "max", "token", "last", "words"}
    """
    if pooling == WORDS:
        return pool_words(hidden, batch)
    words, texts = batch.words, batch.texts
    if pooling in ("token", "last"):
        every = torch.arange(len(batch), device=texts.device)
        if pooling == "token":
            return hidden[torch.searchsorted(texts, every), 0]
        window = torch.searchsorted(texts, every, right=True) - 1
        return hidden[window, (words > PADDING).sum(1)[window] - 1]
    counted = (words >= 0 if pooling == "avg_all" else words > 0)[..., None]
    if pooling == "max":
        parts = hidden.masked_fill(~counted, -torch.inf).amax(1)
        index = texts[:, None].expand_as(parts)
        lowest = hidden.new_full((len(batch), hidden.shape[-1]), -torch.inf)
        return lowest.scatter_reduce(0, index, parts, "amax")
    rows = hidden.new_zeros((len(batch), hidden.shape[-1]))
    sums = rows.index_add(0, texts, (hidden * counted).sum(1))
    number = counted.sum(1).to(hidden.dtype)
    return sums / hidden.new_zeros((len(batch), 1)).index_add(0, texts, number).clamp(min=1)


# A row for every word.
WORDS = "words"


def pool_words(hidden: torch.Tensor, batch: TextBatch) -> torch.Tensor:
    """The mean of the tokens of each word, (n, n_words + 1, width).

    The last place of a sentence stands for its words that have no tokens: the mean of all that
    have some, or, where none has any, of the special tokens, as `TokenCodes` has it.
    """
    n, places, width = len(batch), batch.n_words + 1, hidden.shape[-1]
    counted = batch.words > 0
    index = (batch.texts[:, None] * places + batch.words.clamp(min=1) - 1).flatten()

    def summed(values: torch.Tensor, into: torch.Tensor, size: int) -> torch.Tensor:
        rows = values.new_zeros((size, values.shape[-1]))
        return rows.index_add(0, into, values)

    ones = counted[..., None].to(hidden.dtype)
    number = summed(ones.flatten(0, 1), index, n * places).view(n, places, 1)
    means = summed((hidden * ones).flatten(0, 1), index, n * places).view(n, places, width)
    means = means / number.clamp(min=1)
    special = (batch.words == 0)[..., None].to(hidden.dtype)
    others = summed((hidden * special).sum(1), batch.texts, n)
    others = others / summed(special.sum(1), batch.texts, n).clamp(min=1)
    there = (number > 0).to(hidden.dtype)
    average = (means * there).sum(1) / there.sum(1).clamp(min=1)
    missing = torch.where(there.sum(1) > 0, average, others)[:, None]
    return torch.where(number > 0, means, missing)
