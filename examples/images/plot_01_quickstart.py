"""
Images in, a classifier out
================================

The main job: 1,000 labelled images, a pretrained network, and a linear classifier from
scikit-learn. The images are a sample of CIFAR-10 that ships with sktransfer, and the
network comes with its installation, so this runs offline.
"""

# %%
# One thousand training images, one thousand test images
# ------------------------------------------------------
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC

from sktransfer import CNNCodes
from sktransfer.datasets import load_cifar10_sample

photos = load_cifar10_sample()
train, test = photos.train_indices, photos.test_indices
print(f"{len(train)} training images, {len(test)} test images")
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
# Which classes are confused
# --------------------------

display = ConfusionMatrixDisplay.from_predictions(
    photos.target[test],
    predicted,
    display_labels=photos.target_names,
    xticks_rotation=45,
    colorbar=False,
)
display.ax_.set_title(f"CNN codes and LinearSVC: accuracy {accuracy:.3f}")
display.figure_.tight_layout()

# %%
# How many images are needed, and what raw pixels would do
# --------------------------------------------------------
# The codes are in the cache: no image goes through the network a second time.

sizes = [50, 100, 200, 500, 1000]
pixels = Pipeline(
    [
        ("flatten", FunctionTransformer(lambda X: X.reshape(len(X), -1) / 255)),
        ("scale", StandardScaler()),
        ("svm", LinearSVC(C=1e-4)),
    ]
)
curves = {
    "CNN codes and LinearSVC": pipe.set_params(cnn__verbose=0),
    "pixels and LinearSVC": pixels,
}
accuracies = {
    name: [
        model.fit(photos.data[train[:size]], photos.target[train[:size]]).score(
            photos.data[test], photos.target[test]
        )
        for size in sizes
    ]
    for name, model in curves.items()
}
for name, values in accuracies.items():
    print(f"{name}:", ", ".join(f"{v:.3f} with {n}" for n, v in zip(sizes, values)), "images")

# %%
# In one picture
# --------------
# Twenty test images with their predicted classes, as many of them wrong (red) as among all.

figure = plt.figure(figsize=(9, 3.4), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1.3, 1])
correct = predicted == photos.target[test]
n_wrong = round(20 * (1 - accuracy))
# The first of each class, then the second of each, and so on.
by_turns = np.argsort(
    [np.sum(photos.target[test[:n]] == photos.target[test[n]]) for n in range(len(test))],
    kind="stable",
)
shown = np.concatenate(
    [by_turns[correct[by_turns]][: 20 - n_wrong], by_turns[~correct[by_turns]][:n_wrong]]
)
for cell, number in zip(left.subplots(4, 5).flat, np.sort(shown)):
    cell.imshow(photos.data[test[number]], interpolation="bicubic")
    cell.set_title(
        photos.target_names[predicted[number]],
        fontsize=9,
        pad=2,
        color="black" if correct[number] else "tab:red",
    )
    cell.set_axis_off()
axes = right.subplots()
for (name, values), colour in zip(accuracies.items(), ("tab:blue", "tab:gray")):
    axes.plot(sizes, values, "o-", color=colour)
    axes.annotate(name, (sizes[-1], values[-1]), (0, 8), textcoords="offset points", ha="right")
axes.set(xscale="log", ylim=(0, 1), xlabel="labelled images", ylabel="accuracy on 1,000 others")
axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
axes.minorticks_off()
axes.grid(axis="y", alpha=0.3)
axes.spines[["top", "right"]].set_visible(False)
figure.savefig("quickstart.png", dpi=86)
print("the picture is in quickstart.png")
# sphinx_gallery_thumbnail_number = 2
