"""
Labels for every word
=====================

Which word of an address is the street, which the town? Codes of a pretrained language model for
every word, a linear classifier from scikit-learn, and the best path through what it says. The
addresses are a sample that ships with sktransfer, and the network comes with the extra ``text``,
so this runs offline.
"""

# %%
# Addresses, word by word
# -----------------------
import re

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sktransfer import TokenCodes, TokenLabeller
from sktransfer.datasets import load_addresses_sample

words, labels = load_addresses_sample(return_X_y=True)
learn, test, y_learn, y_test = train_test_split(
    words, labels, train_size=300, test_size=300, random_state=0
)
for word, label in zip(learn[0], y_learn[0]):
    print(f"{word:20s} {label}")

# %%
# Codes of words, and a labeller
# ------------------------------
# ``TokenCodes`` gives each word 384 numbers that depend on the sentence around it. The labeller
# fits a classifier on the words of all sentences, each beside its neighbours, and finds the labels
# of a sentence together (Viterbi).


def linear(C):
    return LogisticRegression(C=C, tol=1e-3, max_iter=500)


ours = TokenLabeller(TokenCodes(), make_pipeline(StandardScaler(), linear(0.01)))
ours.fit(learn, y_learn)
address = ["5", "North", "Main", "Street", "Springfield", "IL"]
print(list(zip(address, ours.predict([address])[0].tolist())))

# %%
# The honest comparison: what words look like
# -------------------------------------------
# Any transformer that makes an array of each sentence will do in the place of ``TokenCodes``: here
# the word itself, its shape and its end, of the same three words.


class WordShapes(TransformerMixin, BaseEstimator):
    """The word, its shape (``Xx``, ``000``) and its last letters."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return [np.array([self.see(word) for word in one]).reshape(-1, 3) for one in X]

    @staticmethod
    def see(word):
        shape = re.sub("[a-z]+", "x", re.sub("[A-Z]", "X", re.sub("[0-9]", "0", word)))
        return word.lower(), shape, word[-3:].lower()


encode = OneHotEncoder(handle_unknown="ignore")
shapes = TokenLabeller(WordShapes(), make_pipeline(encode, linear(10.0))).fit(learn, y_learn)

# %%
# Words that are right
# --------------------
# What follows what in training helps both: without Viterbi each word is labelled by itself.

for name, labeller in (("shapes", shapes), ("codes", ours)):
    alone = clone(labeller).set_params(decode="independent").fit(learn, y_learn)
    print(f"{name:7s} word by word {alone.score(test, y_test):.3f}")
    print(f"{name:7s} Viterbi      {labeller.score(test, y_test):.3f}")

# %%
# Which labels gain
# -----------------

true = np.concatenate(y_test)
often = [label for label in np.unique(true) if (true == label).sum() >= 50]
figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
for offset, name, labeller in ((-0.2, "shapes", shapes), (0.2, "codes", ours)):
    found = np.concatenate(labeller.predict(test))
    scores = f1_score(true, found, labels=often, average=None)
    ax.barh(np.arange(len(often)) + offset, scores, height=0.4, label=name)
ax.set_yticks(range(len(often)), often)
ax.set_xlabel("F1 of words")
ax.legend()
