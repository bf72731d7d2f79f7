"""What a word looks like, without a network: features for a baseline."""

import re

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin


class WordShapes(TransformerMixin, BaseEstimator):
    """The word itself, its shape, beginning, end, and place, as str."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        """An array (n_words, 6) of each sentence."""
        return [
            np.array([_seen(words, i) for i in range(len(words))], dtype="U24").reshape(-1, 6)
            for words in X
        ]


def _seen(words, i):
    word = words[i]
    shape = re.sub("[a-z]", "x", re.sub("[A-Z]", "X", re.sub("[0-9]", "0", word)))
    short = re.sub(r"(.)\1+", r"\1", shape)
    place = f"{min(i, 2)} {min(len(words) - 1 - i, 2)}"
    return word.lower(), short, word[:2].lower(), word[-3:].lower(), word[-2:].lower(), place
