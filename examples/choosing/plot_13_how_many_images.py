"""
How many images do I need?
===============================

The learning curve of a linear probe, from the images that are there, says how much more would
help. Here there are more, so that the forecast can be held against what came true.
"""

# %%
# The curve of 150 images
# ----------------------------
import matplotlib.pyplot as plt
import numpy as np

from sktransfer import advise
from sktransfer.datasets import load_cifar10_sample

X, y = load_cifar10_sample(return_X_y=True)
few = advise(X[:150], y[:150], image_size=64)
curve = few.learning_curve
for size, mean, std in zip(curve.sizes, curve.means, curve.stds, strict=True):
    print(f"{size:4d} images: {mean:.1%} ± {std:.1%}")

# %%
# The forecast, and what came true
# --------------------------------
true = advise(X[:600], y[:600], image_size=64).learning_curve
sizes = np.linspace(curve.sizes[0], true.sizes[-1], 50)
plt.errorbar(curve.sizes, curve.means, curve.stds, fmt="o", label="from 150 images")
plt.plot(sizes, curve.expected(sizes), "--", label="extrapolation (power law)")
plt.errorbar(true.sizes, true.means, true.stds, fmt="s", label="from 600 images")
plt.xlabel("training images")
plt.ylabel("accuracy of the probe")
plt.legend()
plt.show()

# %%
# Trust it for twice as many images, not for ten times as many.
print(f"forecast for {true.sizes[-1]}: {curve.expected(true.sizes[-1]):.1%}")
print(f"measured: {true.means[-1]:.1%}")
