"""
Duplicates, wrong labels, leaks
===============================

What is wrong with a set of images is found before anything is trained. Here it is planted, so that
we know what there is to find.
"""

# %%
import io

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageFilter

from sktransfer import find_issues
from sktransfer.datasets import load_cifar10_sample

photos = load_cifar10_sample()
images = [Image.fromarray(one) for one in photos.data[:200]]
names = [photos.target_names[number] for number in photos.target[:200]]

# %%
# What people do to images
# ------------------------
# Five copies each that were saved again, made smaller, cropped and mirrored; they end in the test
# set. Five labels are wrong, three images are dark, and three blurred.


def saved_again(image):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=60)
    return file.getvalue()


ways = [
    saved_again,
    lambda image: image.resize((22, 22)),
    lambda image: image.crop((3, 1, 30, 28)),
    lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
]
X, y = list(images), list(names)
for number in range(20):
    X.append(ways[number // 5](images[number]))
    y.append(names[number])
wrong = range(100, 105)
for number in wrong:
    y[number] = "ship" if y[number] != "ship" else "cat"
for number in (120, 121, 122):
    X[number] = Image.fromarray(np.asarray(images[number]) // 5)
for number in (130, 131, 132):
    X[number] = images[number].filter(ImageFilter.GaussianBlur(1.5))
split = ["train"] * 200 + ["test"] * 20

# %%
# One call
# --------
# The page shows the surest of each kind, beside the image that is kept.
issues = find_issues(X, y, split=split, image_size=128)
issues

# %%
# The same as a table.
issues.to_frame().groupby("issue").head(2)

# %%
# Was it right?
# -------------
found = set(issues.indices("near duplicate"))
copies = found & set(range(200, 220))
print(f"{len(copies)} of 20 copies found, and {len(found - copies)} others")
suspected = issues.indices("label")
print(f"{len(set(suspected) & set(wrong))} of 5 wrong labels among {len(suspected)} that look so")
issues.plot(n_examples=5)
plt.show()

# %%
# Without the copies
# ------------------
keep = np.delete(np.arange(len(X)), issues.drop)
print(f"{len(X)} images, {len(keep)} without copies")
