"""
Which layers should be trained?
===============================

Accuracy over the cut: the more stages are trained, the more can be gained from many images, and the
more it costs. With few images the last stage or two are all that is worth it.
"""

# %%
import matplotlib.pyplot as plt

from sktransfer import FineTuneClassifier
from sktransfer.datasets import load_cifar10_sample

X, y = load_cifar10_sample(return_X_y=True)
train, test = slice(0, 200), slice(1000, 1300)
cuts = ["head", 1, 2, 3]
scores, sizes = [], []
for trainable in cuts:
    clf = FineTuneClassifier(trainable=trainable, image_size=64, max_epochs=4, random_state=0)
    clf.fit(X[train], y[train])
    scores.append(clf.score(X[test], y[test]))
    sizes.append(clf.n_trainable_parameters_)
    print(f"{trainable!s:5} {sizes[-1]:8} weights trained, accuracy {scores[-1]:.3f}")

# %%
plt.plot(range(len(cuts)), scores, marker="o")
plt.xticks(range(len(cuts)), [f"{cut}\n{size:,}" for cut, size in zip(cuts, sizes)])
plt.xlabel("what is trained: stages from the end, weights")
plt.ylabel("accuracy on 300 images")
plt.show()
