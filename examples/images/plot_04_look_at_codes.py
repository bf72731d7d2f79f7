"""
Looking at the codes
====================

What does the network think is alike? A map of the codes, nearest neighbours, and the images
that a classifier gets most wrong, step by step; the displays of :mod:`sktransfer.inspection` draw
each of them in one line.
"""

# %%
# The codes of 600 images
# ----------------------------
import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import CNNCodes
from sktransfer.datasets import load_cifar10_sample

sample = load_cifar10_sample()
X, y, names = sample.data[:600], sample.target[:600], sample.target_names
codes = CNNCodes(image_size=128, normalize="l2").fit_transform(X)
print(codes.shape, codes.dtype)

# %%
# A map in two dimensions
# -----------------------

flat = TSNE(init="pca", perplexity=20, random_state=0).fit_transform(codes)
figure, axes = plt.subplots(figsize=(7, 6))
for number, name in enumerate(names):
    axes.scatter(*flat[y == number].T, s=12, label=name)
axes.legend(fontsize="small", ncols=2)
axes.set_axis_off()

# %%
# Nearest neighbours
# ------------------
# The first column is the query image.

neighbours = NearestNeighbors(n_neighbors=6).fit(codes)
queries = [np.flatnonzero(y == number)[0] for number in range(5)]
figure, axes = plt.subplots(5, 6, figsize=(7, 6))
for row, found in zip(axes, neighbours.kneighbors(codes[queries], return_distance=False)):
    for cell, index in zip(row, found):
        cell.imshow(X[index])
        cell.set_title(names[y[index]], fontsize="small")
        cell.set_axis_off()
figure.tight_layout()

# %%
# Where a classifier goes wrong
# -----------------------------

classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
chances = cross_val_predict(classifier, codes, y, cv=5, method="predict_proba")
predicted = chances.argmax(axis=1)
display = ConfusionMatrixDisplay.from_predictions(
    y, predicted, display_labels=names, xticks_rotation=45, colorbar=False
)
display.ax_.set_title(f"accuracy {np.mean(predicted == y):.3f}")
display.figure_.tight_layout()

# %%
# The worst errors: wrong, with high confidence
# ---------------------------------------------

wrong = np.flatnonzero(predicted != y)
worst = wrong[np.argsort(-chances[wrong, predicted[wrong]])][:12]
figure, axes = plt.subplots(3, 4, figsize=(7, 6))
for cell, index in zip(axes.flat, worst):
    cell.imshow(X[index])
    cell.set_title(f"{names[y[index]]}, taken for {names[predicted[index]]}", fontsize="x-small")
    cell.set_axis_off()
figure.tight_layout()
# sphinx_gallery_thumbnail_number = 2
