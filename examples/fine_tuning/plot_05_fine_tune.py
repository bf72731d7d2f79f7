"""
Fine-tune in ten lines
======================

A new output layer that starts from a linear classifier, and the last two stages of the network,
are trained together; everything before them is computed once.
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
# What it takes the first test images for.
import matplotlib.pyplot as plt

names = load_cifar10_sample().target_names
figure, axes = plt.subplots(2, 6, figsize=(8, 3.2))
for cell, image, label, answer in zip(axes.flat, X[test], y[test], clf.predict(X[test][:12])):
    cell.imshow(image)
    cell.set_title(names[answer], fontsize="small", color="black" if answer == label else "red")
    cell.set_axis_off()
figure.tight_layout()

# %%
# What was trained, how fast, and how it went.
for layer in clf.layers_:
    trained = f"{layer.n_trainable} of {layer.n_parameters} trained"
    print(f"{layer.name:10} learning rate {layer.lr:.4f}, {trained}")

# %%
plt.figure()
plt.plot(clf.history_[:, "train_loss"], label="training")
plt.plot(clf.history_[:, "valid_loss"], label="validation")
plt.xlabel("epoch")
plt.ylabel("loss")
plt.legend()
plt.show()
