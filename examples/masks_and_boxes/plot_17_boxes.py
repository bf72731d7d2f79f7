"""
Find objects
============

Where are the horses and the cars, how many, and which is which? A detector needs no boxes of
objects it has never seen: a pretrained network that was never trained to find anything makes the
maps, a small head is trained on sixty images. Objects are pasted into backgrounds, both from the
sample of CIFAR-10 that ships with sktransfer, so this runs offline.
"""

# %%
# Images whose boxes are known
# ----------------------------
# ``y`` has one entry for each image: a dict of boxes, x1, y1, x2, y2 in pixels, and labels of any
# kind. There is no background class, and images without objects are welcome.
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from sktransfer import FineTuneDetector
from sktransfer.datasets import load_cifar10_sample
from sktransfer.inspection import BoxDisplay
from sktransfer.metrics import average_precision_boxes

sample = load_cifar10_sample()
KINDS = {"horse": 7, "car": 1}
OTHERS = [0, 2, 6, 8]  # airplanes, birds, frogs and ships are what is behind them


def overlap(one, other):
    return all(max(one[i], other[i]) < min(one[i + 2], other[i + 2]) for i in (0, 1))


def resized(pixels, width, height):
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def scene(rows, random):
    """An image with up to three objects that do not overlap, and their boxes."""
    target, pixels = sample.target[rows], sample.data[rows]
    behind = random.choice(np.flatnonzero(np.isin(target, OTHERS)))
    canvas, boxes, labels = resized(pixels[behind], 192, 128), [], []
    for _ in range(random.integers(0, 4)):
        side = int(random.integers(36, 60))
        left, top = (int(random.integers(0, room - side)) for room in (192, 128))
        box = [left, top, left + side, top + side]
        if any(overlap(box, one) for one in boxes):
            continue
        label = random.choice(list(KINDS))
        row = random.choice(np.flatnonzero(target == KINDS[label]))
        canvas.paste(resized(pixels[row], side, side), (left, top))
        boxes.append(box)
        labels.append(label)
    return np.asarray(canvas), {"boxes": np.reshape(boxes, (-1, 4)), "labels": labels}


random = np.random.default_rng(0)
X, y = zip(*(scene(sample.train_indices, random) for _ in range(60)))
X_test, y_test = zip(*(scene(sample.test_indices, random) for _ in range(20)))
counts = [len(one["labels"]) for one in y]
print(f"{sum(counts)} objects in {len(X)} images, {counts.count(0)} of them without any")

BoxDisplay.from_predictions(X, None, y, n_images=4)
plt.show()

# %%
# Train the head
# --------------
# The network stays as it is, and its maps are computed once; what is trained are a feature pyramid
# and torchvision's FCOS head.
detector = FineTuneDetector(image_size=(128, 192), max_epochs=15, random_state=0).fit(X, y)
print(f"{detector.n_trainable_parameters_:,} numbers were trained")

fig, ax = plt.subplots(figsize=(5, 3))
ax.plot(detector.history_[:, "epoch"], detector.history_[:, "train_loss"])
ax.set(xlabel="epoch", ylabel="loss")
plt.show()

# %%
# What it finds
# -------------
# An array with a dict for each image, the most certain first. Many answers have low scores, since
# average precision looks at all of them; to count or show objects leave these out.
found = detector.predict(X_test)
sure = [{name: one[name][one["scores"] > 0.3] for name in one} for one in found]
print(y_test[0])
print({name: values.tolist() for name, values in sure[0].items()})

print("AP50:", round(average_precision_boxes(y_test, found), 2))
for label, one in zip(detector.classes_, average_precision_boxes(y_test, found, average=None)):
    print(f"  {label}: {one:.2f}")

# %%
# The worst, truth beside prediction
# ----------------------------------
BoxDisplay.from_predictions(X_test, y_test, sure, n_images=4)
plt.show()
