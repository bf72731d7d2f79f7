"""Labels for every word of a sentence, as something that is learnt."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from scipy.special import log_softmax
from torch import nn

from ..codes import Transitions, label_lists, one_kind_of_labels, scheme_of
from ..exceptions import shown
from ._targets import class_weights, weights_by_class
from ._tasks import Labels, Sides, Task

__all__ = ["Words", "rows_of_words"]


def rows_of_words(rows: np.ndarray, n: int) -> np.ndarray:
    """Those of the words of a sentence; the last row stands for all words without tokens."""
    return rows[np.arange(n).clip(max=len(rows) - 1)]


# In the place of the label of a word behind the last.
_NONE = -1


@dataclass(frozen=True, eq=False)
class Words(Labels):
    """A label for each word of a sentence; encoded as numbers of classes, (n, most words), or -1.

    A head gives (n, most words of the batch + 1, n_classes): the last place stands for all words
    that are no part of what the network sees. Each word counts the same, but for its class.

    Attributes
    ----------
    class_weight : ndarray of shape (n_classes,) or None
        With mean 1 over the words of the first call.
    scheme : "BIO" or None
    transitions : Transitions
        Which labels follow each other.
    """

    kind: ClassVar[str] = "words"
    scheme: str | None = None
    transitions: Any = None

    @classmethod
    def of_sentences(
        cls,
        y: Any,
        classes: Any,
        name: str,
        *,
        scheme: str | None,
        transition_weight: float,
        label_smoothing: float,
    ) -> tuple[Self, np.ndarray]:
        """The task of the first labels, and these encoded."""
        labels = label_lists(y, name)
        flat = one_kind_of_labels(labels)
        known = np.unique(flat) if classes is None else np.unique(np.asarray(classes))
        if len(known) < 2:
            more = " Name all classes in classes=." if name == "y of partial_fit" else ""
            raise ValueError(
                f"{name} must hold at least 2 classes, got 1 class: {known.tolist()[0]!r}.{more}"
            )
        scheme = scheme_of(scheme, labels, np.append(flat, known))
        task = cls(known, scheme=scheme)
        sentences = task._numbers(labels, name)
        transitions = Transitions.of(
            sentences, known, weight=transition_weight, bio=scheme == "BIO"
        )
        task = replace(task, transitions=transitions, label_smoothing=label_smoothing)
        return task, _padded(sentences)

    def weighted(self, class_weight: Any, target: np.ndarray) -> Self:
        numbers = target[target != _NONE]
        found = class_weights(class_weight, self.classes, numbers)
        if found is not None:
            found = found / found[numbers].mean()
        return replace(self, class_weight=found)

    def encode(self, y: Any, items: Sized, name: str = "y") -> np.ndarray:
        return _padded(self._numbers(label_lists(y, name), name))

    def _numbers(self, labels: Sequence[Sequence[Any]], name: str) -> list[np.ndarray]:
        """Numbers of the classes of the words of each sentence."""
        known = {label: number for number, label in enumerate(self.classes.tolist())}
        found = []
        for number, sentence in enumerate(labels):
            unknown = [one for one in sentence if one not in known]
            if unknown:
                raise ValueError(
                    f"{name} must hold the classes {shown(self.classes.tolist())}, got "
                    f"{shown(repr(unknown[0]))} in sentence {number}. Name all classes in the "
                    "first call: partial_fit(X, y, classes=...)."
                )
            found.append(np.array([known[one] for one in sentence], np.int64))
        return found

    @property
    def net_params(self) -> dict[str, Any]:
        return {"criterion": nn.CrossEntropyLoss}

    def losses(self, out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if target.ndim == 1:  # words of all sentences, one below the other
            return super().losses(out, target.long())
        out, target = _side_by_side(out, target)
        losses = nn.functional.cross_entropy(
            out.flatten(0, 1), target.flatten(), ignore_index=_NONE, reduction="none",
            label_smoothing=self.label_smoothing,
        )  # fmt: skip
        losses = losses.view(target.shape)
        if self.class_weight is not None:
            by_class = torch.as_tensor(self.class_weight, dtype=out.dtype, device=out.device)
            losses = losses * by_class[target.clamp(min=0)]
        return losses.sum(1) / (target != _NONE).sum(1).clamp(min=1)

    def hits(self, out: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out, target = _side_by_side(out, target)
        return (out.argmax(2) == target).sum(1), (target != _NONE).sum(1)

    def joined(self, outs: Sequence[torch.Tensor]) -> torch.Tensor:
        most = max((out.shape[1] for out in outs), default=1)
        return torch.cat(
            [torch.cat([one, one[:, -1:].expand(-1, most - one.shape[1], -1)], 1) for one in outs]
        )

    def sample_weights(self, target: np.ndarray, weight: np.ndarray | None) -> np.ndarray | None:
        counts = (target != _NONE).sum(1).astype(np.float64)
        if not counts.any():
            raise ValueError("X must have words, with a label each, but all sentences are empty.")
        counts /= counts.mean()
        return counts if weight is None else counts * weight

    def for_head(
        self, codes: Any, target: np.ndarray, weight: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Rows of all words, one below the other; `codes` has an array for each sentence."""
        counts = (target != _NONE).sum(1)
        rows = [rows_of_words(one, n) for one, n in zip(codes, counts, strict=True)]
        if weight is not None:  # of a sentence, that of its words together
            weight = np.repeat(weight / np.maximum(counts, 1), counts)
            weight = weight / (weight.mean() or 1.0)
        numbers = target[target != _NONE].astype(np.int64)
        if self.class_weight is not None:
            weight = weights_by_class(self.class_weight[numbers], weight)
        return np.concatenate(rows), numbers, weight

    def decoded(self, scores: Sequence[np.ndarray], *, together: bool) -> list[np.ndarray]:
        """The labels that outputs stand for, (n_words, n_classes) of each sentence.

        Parameters
        ----------
        scores : sequence of ndarray
        together : bool
            Whether the labels of a sentence are found together (Viterbi).
        """
        if not together:
            return [self.classes[one.argmax(axis=1)] for one in scores]
        likely = log_softmax(np.concatenate(scores).astype(np.float64), axis=1)
        paths = self.transitions.best_paths(likely, [len(one) for one in scores])
        return [self.classes[path] for path in paths]

    def _split(self, every: np.ndarray, target: np.ndarray, fraction: float, seed: int) -> Sides:
        return Task._split(self, every, target, fraction, seed)

    def _split_groups(
        self, every: np.ndarray, target: np.ndarray, groups: np.ndarray, fraction: float, seed: int
    ) -> Sides:
        return Task._split_groups(self, every, target, groups, fraction, seed)


def _padded(sentences: Sequence[np.ndarray]) -> np.ndarray:
    most = max((len(one) for one in sentences), default=0)
    rows = np.full((len(sentences), max(1, most)), _NONE, np.int32)
    for row, one in zip(rows, sentences, strict=True):
        row[: len(one)] = one
    return rows


def _side_by_side(out: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What was said of each word, and its label, as far as the longest sentence goes."""
    n = max(1, int((target != _NONE).sum(1).max())) if len(target) else 1
    places = torch.arange(n, device=out.device).clamp(max=out.shape[1] - 1)
    return out[:, places], target[:, :n].long()
