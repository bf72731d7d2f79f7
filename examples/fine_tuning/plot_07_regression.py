"""
Regression: numbers from images
===============================

:class:`~sktransfer.FineTuneRegressor` predicts numbers. Here: how blue an image is.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np

from sktransfer import FineTuneRegressor
from sktransfer.datasets import load_cifar10_sample

X, _ = load_cifar10_sample(return_X_y=True)
y = X[..., 2].mean(axis=(1, 2)) - X.mean(axis=(1, 2, 3))
train, test = slice(0, 200), slice(1000, 1200)
reg = FineTuneRegressor(image_size=64, max_epochs=5, random_state=0).fit(X[train], y[train])
print(f"R² {reg.score(X[test], y[test]):.2f}")

# %%
# Some test images, from the least to the most blue as predicted.
predicted = reg.predict(X[test])
figure, axes = plt.subplots(2, 8, figsize=(9, 3))
for cell, index in zip(axes.flat, np.argsort(predicted)[:: len(predicted) // 15]):
    cell.imshow(X[test][index])
    cell.set_title(f"{predicted[index]:.0f}, is {y[test][index]:.0f}", fontsize="small")
    cell.set_axis_off()
figure.tight_layout()

# %%
plt.figure()
plt.scatter(y[test], predicted, s=8)
plt.axline((0, 0), slope=1, color="grey")
plt.xlabel("blue beyond grey")
plt.ylabel("predicted")
plt.show()
