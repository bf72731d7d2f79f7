"""
Fine-tune in ten lines
======================

A new output layer that starts from a linear classifier, and the last two stages of the network,
learn together; everything before them is computed once.
"""

# %%
from sktransfer import FineTuneClassifier
from sktransfer.datasets import load_cifar10_sample

X, y = load_cifar10_sample(return_X_y=True)
train, test = slice(0, 200), slice(1000, 1200)
clf = FineTuneClassifier(image_size=64, max_epochs=4, random_state=0)
clf.fit(X[train], y[train], validation_data=(X[test], y[test]))
print(f"accuracy {clf.score(X[test], y[test]):.2f}")

# %%
# What was trained, how fast, and how it went.
for layer in clf.layers_:
    trained = f"{layer.n_trainable} of {layer.n_parameters} trained"
    print(f"{layer.name:10} learning rate {layer.lr:.4f}, {trained}")

# %%
import matplotlib.pyplot as plt

plt.plot(clf.history_[:, "train_loss"], label="training")
plt.plot(clf.history_[:, "valid_loss"], label="validation")
plt.xlabel("epoch")
plt.ylabel("loss")
plt.legend()
plt.show()
