"""
Numbers from images
========================

:class:`~sktransfer.FineTuneRegressor` learns numbers. Here: how blue an image is.
"""

# %%
import matplotlib.pyplot as plt

from sktransfer import FineTuneRegressor
from sktransfer.datasets import load_cifar10_sample

X, _ = load_cifar10_sample(return_X_y=True)
y = X[..., 2].mean(axis=(1, 2)) - X.mean(axis=(1, 2, 3))
train, test = slice(0, 200), slice(1000, 1200)
reg = FineTuneRegressor(image_size=64, max_epochs=5, random_state=0).fit(X[train], y[train])
print(f"R² {reg.score(X[test], y[test]):.2f}")

# %%
plt.scatter(y[test], reg.predict(X[test]), s=8)
plt.axline((0, 0), slope=1, color="grey")
plt.xlabel("blue beyond grey")
plt.ylabel("predicted")
plt.show()
