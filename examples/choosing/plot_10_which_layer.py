"""
Which layer, and which C?
=========================

The first layers of a network are generic, the last are specific to the images it was trained
on. How deep to cut is a hyper-parameter like any other, and a search over it costs one pass of the
network over the images with ``cache_layers="all"``, and two without.
"""

# %%
# The layers of a network
# -----------------------
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from sktransfer import CNNCodes
from sktransfer.datasets import load_cifar10_sample

sample = load_cifar10_sample()
X, y = sample.data[:400], sample.target[:400]

codes = CNNCodes(image_size=96)
for layer in codes.list_layers()[-6:]:
    print(f"{layer.name:30s} {layer.shape}")

# %%
# A search over layer and C
# -------------------------

layers = ["blocks.1", "blocks.2", "blocks.3", "blocks.4", "blocks.5", "blocks", None]
pipe = Pipeline([("cnn", codes), ("scale", StandardScaler()), ("svm", LinearSVC())])
grid = {"cnn__layer": layers, "svm__C": [1e-4, 1e-3, 1e-2]}
search = GridSearchCV(pipe, grid, cv=4).fit(X, y)
print(search.best_params_, f"accuracy {search.best_score_:.3f}")

# %%
# Accuracy over depth
# -------------------
# Images of everyday things are what the network was trained on, so its last layer wins.

table = search.cv_results_
mean = np.array(table["mean_test_score"]).reshape(len(layers), -1)
std = np.array(table["std_test_score"]).reshape(len(layers), -1)
best = mean.argmax(axis=1)
rows = np.arange(len(layers))
figure, axes = plt.subplots()
axes.errorbar(rows, mean[rows, best], std[rows, best], marker="o")
axes.set_xticks(rows, [str(layer or "last") for layer in layers], rotation=45)
axes.set(ylabel="accuracy with the best C", xlabel="layer whose codes are used")
figure.tight_layout()
