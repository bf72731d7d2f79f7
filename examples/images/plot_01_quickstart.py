"""
Images in, a classifier out
================================

The main job: 1,000 labelled images, a pretrained network, and a linear classifier from
scikit-learn. The images are a sample of CIFAR-10 that ships with sktransfer, and the
network comes with its installation, so this runs offline.
"""

# %%
# One thousand images to learn from, one thousand to be judged by
# --------------------------------------------------------------------
import time

import matplotlib.pyplot as plt
from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from sktransfer import CNNCodes
from sktransfer.datasets import load_cifar10_sample

photos = load_cifar10_sample()
train, test = photos.train_indices, photos.test_indices
print(f"{len(train)} images to learn from, {len(test)} to be judged by")
print("classes:", ", ".join(photos.target_names))

# %%
# A pipeline like any other
# -------------------------
# ``CNNCodes`` turns an image into 1,280 numbers, the output of the network's last layer but
# one. Everything after that is scikit-learn.

pipe = Pipeline(
    [
        ("cnn", CNNCodes(verbose=1)),
        ("scale", StandardScaler()),
        ("svm", LinearSVC(C=1e-3)),
    ]
)
start = time.perf_counter()
print("computing the codes of the training images and fitting ...")
pipe.fit(photos.data[train], photos.target[train])
print("predicting the test images ...")
predicted = pipe.predict(photos.data[test])
accuracy = accuracy_score(photos.target[test], predicted)
print(f"test accuracy {accuracy:.3f} after {time.perf_counter() - start:.0f} seconds")

# %%
# The same classifier on raw pixels, for comparison
# -------------------------------------------------

pixels = photos.data.reshape(len(photos.data), -1) / 255
raw = Pipeline([("scale", StandardScaler()), ("svm", LinearSVC(C=1e-4))])
raw.fit(pixels[train], photos.target[train])
raw_accuracy = raw.score(pixels[test], photos.target[test])
print(f"test accuracy of the same classifier on raw pixels {raw_accuracy:.3f}")

# %%
# Which classes are confused
# --------------------------

figure, axes = plt.subplots(figsize=(7, 6.5))
ConfusionMatrixDisplay.from_predictions(
    photos.target[test],
    predicted,
    display_labels=photos.target_names,
    xticks_rotation=45,
    colorbar=False,
    ax=axes,
)
axes.set_title(f"CNN codes and LinearSVC: accuracy {accuracy:.3f} (raw pixels {raw_accuracy:.3f})")
figure.tight_layout()
figure.savefig("quickstart.png", dpi=120)
print("the confusion matrix is in quickstart.png")
