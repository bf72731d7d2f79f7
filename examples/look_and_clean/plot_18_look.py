"""
Look at images, errors and reasons
==================================

What is there, which images go wrong, what they are like, and which pixels and words decide.
"""

# %%
# What is there
# -------------
# In a notebook what a loader returns shows itself. As a figure, some images of each class:
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import CNNCodes, TextCodes
from sktransfer.datasets import load_cifar10_sample, load_film_sentences_sample
from sktransfer.inspection import (
    EmbeddingMapDisplay,
    ImageGridDisplay,
    NeighboursDisplay,
    SaliencyDisplay,
    WorstErrorsDisplay,
    image_facts,
)

photos = load_cifar10_sample()
names = photos.target_names
ImageGridDisplay.from_images(photos, n_images=20)
photos

# %%
# The darkest
# -----------
# Light, colour and sharpness are numbers.

X, y = photos.data[:300], photos.target[:300]
darkest = np.argsort(image_facts(X)["brightness"])[:6]
ImageGridDisplay.from_images(X[darkest], order="given")

# %%
# What goes wrong
# ---------------
# Predictions are made by folds, so that no image is judged by what was fitted on it.

pipe = make_pipeline(
    CNNCodes(image_size=128), StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)
)
found = cross_val_predict(pipe, X, y, cv=3, method="predict_proba")
print("accuracy", np.mean(found.argmax(axis=1) == y).round(3))
worst = WorstErrorsDisplay.from_predictions(X, y, found, n_images=8, display_labels=names)

# %%
# What the worst are like
# -----------------------
# The nearest among the others, by the codes.

pipe.fit(X, y)
others = np.setdiff1d(np.arange(len(X)), worst.indices)
NeighboursDisplay.from_estimator(
    pipe, X[worst.indices[:3]], X[others], y[others], display_labels=names
)

# %%
# A map
# -----

EmbeddingMapDisplay.from_estimator(pipe, X, y, display_labels=names)

# %%
# Which pixels decide
# -------------------
# Behind codes that are means over a map a linear model has an exact map of its score: red places
# add up to it.

new = photos.data[400:404]
exact = SaliencyDisplay.from_estimator(pipe, new, display_labels=names)
print(exact.maps.sum(axis=(1, 2)).round(2), "but for the intercept is", exact.scores.round(2))

# %%
# Any estimator can be asked what it loses where the image is covered.

SaliencyDisplay.from_estimator(pipe, new, method="occlusion", patch=0.3, display_labels=names)

# %%
# Which words decide
# ------------------

films = load_film_sentences_sample()
tone = make_pipeline(TextCodes(), StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
tone.fit(films.data[:200], films.target[:200])
SaliencyDisplay.from_estimator(tone, films.data[200:204], display_labels=films.target_names)
# sphinx_gallery_thumbnail_number = 6
