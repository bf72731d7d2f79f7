"""
Images and numbers in one table
====================================

Where each row of a table has an image and some numbers, ``ColumnTransformer`` sends each
column to its own transformer, and one classifier sees them all.
"""

# %%
# A table with a column of paths
# ------------------------------
# Vehicles and animals from the sample, each with a made-up weight in kilograms that overlaps
# between classes: neither the image nor the weight says everything.
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import CNNCodes
from sktransfer.datasets import load_cifar10_sample

sample = load_cifar10_sample()
scratch = tempfile.TemporaryDirectory()
rng = np.random.default_rng(0)
typical = {"cat": 4.5, "dog": 20.0, "deer": 90.0, "horse": 500.0}
rows = []
for number in sample.train_indices:
    name = sample.target_names[sample.target[number]]
    if name in typical:
        path = Path(scratch.name) / f"{number}.png"
        Image.fromarray(sample.data[number]).save(path)
        rows.append((path, typical[name] * rng.lognormal(0, 0.7), name))
table = pd.DataFrame(rows, columns=["photo", "weight", "animal"])
print(table.groupby("animal")["weight"].describe().round(0))

# %%
# Some rows:
figure, axes = plt.subplots(2, 4, figsize=(7, 4))
for cell, row in zip(axes.flat, table.sample(8, random_state=1).itertuples()):
    cell.imshow(Image.open(row.photo))
    cell.set_title(f"{row.weight:.0f} kg\n{row.animal}", fontsize="small")
    cell.set_axis_off()
figure.tight_layout()

# %%
# One pipeline
# ------------
# The column of images is named by a string, so that ``CNNCodes`` gets a Series; a list with
# one name works as well.


def pipeline(*columns):
    """A classifier on some of the columns."""
    parts = {
        "photo": ("photo", CNNCodes(image_size=96), "photo"),
        "weight": ("weight", "passthrough", ["weight"]),
    }
    return Pipeline(
        [
            ("columns", ColumnTransformer([parts[name] for name in columns])),
            ("scale", StandardScaler()),
            ("classify", LogisticRegression(C=0.01, max_iter=1000)),
        ]
    )


table["weight"] = np.log(table["weight"])
found = {}
for columns in (["weight"], ["photo"], ["photo", "weight"]):
    scores = cross_val_score(pipeline(*columns), table, table["animal"], cv=5)
    found[" and ".join(columns)] = scores.mean()
    print(f"{' and '.join(columns):20s} accuracy {scores.mean():.3f} ± {scores.std():.3f}")

# %%
figure, axes = plt.subplots(figsize=(6, 2))
axes.barh(list(found), list(found.values()))
axes.set(xlim=(0, 1), xlabel="accuracy, mean of 5 folds")
figure.tight_layout()

# %%
# Named columns come out
# ----------------------

named = pipeline("photo", "weight")[:1].set_output(transform="pandas")
print(named.fit_transform(table.head(3)).iloc[:, [0, 1, -1]])
scratch.cleanup()
