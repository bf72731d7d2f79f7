"""
Masks from a few labelled images
================================

Where are animals, where are vehicles? A few images with masks are enough for a linear classifier
on what several layers of a pretrained network say of every pixel.
"""

# %%
# Scenes with known masks
# -----------------------
# Small images, pasted on photographs. Each small image is in one scene alone.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_images

from sktransfer import PixelClassifier
from sktransfer.datasets import load_cifar10_sample

small, photographs = load_cifar10_sample(), load_sample_images().images
is_animal = np.isin(small.target, [2, 3, 4, 5, 6, 7])
rng = np.random.default_rng(0)


def scene(numbers):
    """A part of a photograph with small images in it, and its mask."""
    top, left = rng.integers(0, 235), rng.integers(0, 384)
    image = photographs[rng.integers(2)][top : top + 192, left : left + 256].copy()
    mask = np.full((192, 256), "background")
    for place, number in enumerate(numbers):
        top, left = rng.integers(0, 128), 86 * place + rng.integers(0, 20)
        at = slice(top, top + 64), slice(left, left + 64)
        image[at] = small.data[number].repeat(2, axis=0).repeat(2, axis=1)
        mask[at] = "animal" if is_animal[number] else "vehicle"
    return image, mask


X, y = map(np.stack, zip(*map(scene, rng.permutation(600)[:150].reshape(50, 3)), strict=True))
X_test, y_test, X, y = X[:20], y[:20], X[20:], y[20:]

# %%
# How many masks does it take?
# ----------------------------
scores = {}
for n in (1, 2, 5, 10, 20, 30):
    pixels = PixelClassifier(random_state=0).fit(X[:n], y[:n])
    scores[n] = pixels.score(X_test, y_test)
plt.plot(list(scores), list(scores.values()), marker=".")
plt.xlabel("labelled images")
plt.ylabel("mean IoU on other images")
plt.show()

# %%
# What it finds
# -------------
# The image, its mask, what is found, and the probability of an animal, which tells where it is in
# doubt.
found, shares = pixels.predict(X_test[:4]), pixels.predict_proba(X_test[:4])
fig, axes = plt.subplots(4, 4, figsize=(9, 7.5), layout="constrained")
for row, image, truth, mask, share in zip(axes, X_test, y_test, found, shares, strict=False):
    row[0].imshow(image)
    for ax, labels in zip(row[1:3], (truth, mask), strict=True):
        ax.imshow(np.searchsorted(pixels.classes_, labels), vmin=0, vmax=2, cmap="viridis")
    row[3].imshow(share[..., list(pixels.classes_).index("animal")], vmin=0, vmax=1, cmap="magma")
for ax, title in zip(axes[0], ("image", "truth", "found", "P(animal)"), strict=True):
    ax.set_title(title)
for ax in axes.flat:
    ax.axis("off")
plt.show()

# %%
# Scribbles instead of masks
# --------------------------
# Three strokes across each image, and all else is nobody's: ``unlabeled`` says so.
strokes = np.full_like(y, "")
for top in (40, 96, 150):
    strokes[:, top : top + 3, 8:248] = y[:, top : top + 3, 8:248]
print(f"labelled: {(strokes != '').mean():.1%} of the pixels")
scribbled = PixelClassifier(unlabeled="", random_state=0).fit(X, strokes)
print(f"scribbles: {scribbled.score(X_test, y_test):.2f}, masks: {scores[30]:.2f}")
# sphinx_gallery_thumbnail_number = 2
