"""
A search over strategies
========================

How much of the network is trained, and how fast, are ordinary hyper-parameters. Frozen layers are
computed once for the whole search.
"""

# %%
import pandas as pd
from sklearn.model_selection import GridSearchCV

from sktransfer import FineTuneClassifier
from sktransfer.datasets import load_cifar10_sample

X, y = load_cifar10_sample(return_X_y=True)
clf = FineTuneClassifier(image_size=64, max_epochs=3, random_state=0)
grid = {"trainable": ["head", 1], "backbone_lr_factor": [0.03, 0.3]}
search = GridSearchCV(clf, grid, cv=2).fit(X[:120], y[:120])

# %%
table = pd.DataFrame(search.cv_results_)
print(table[["param_trainable", "param_backbone_lr_factor", "mean_test_score", "mean_fit_time"]])

# %%
import matplotlib.pyplot as plt

for trainable, rows in table.groupby(table["param_trainable"].astype(str)):
    label = "the head" if trainable == "head" else f"the head and {trainable} stage"
    plt.plot(rows["param_backbone_lr_factor"], rows["mean_test_score"], marker="o", label=label)
plt.xscale("log")
plt.xlabel("learning rate of pretrained layers, as a part of that of the head")
plt.ylabel("accuracy, mean of 2 folds")
plt.legend(title="trained")
plt.show()

# %%
# The best candidate, fitted to all images.
print(search.best_params_, f"{search.score(X[1000:1200], y[1000:1200]):.2f}")
