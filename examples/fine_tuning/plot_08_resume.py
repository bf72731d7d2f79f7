"""
Resume interrupted training
=============================

A fit that names a folder leaves a checkpoint there after each epoch, and the same call resumes from
the last one. Here the power fails in the third epoch.
"""

# %%
import tempfile
from pathlib import Path

import numpy as np
from skorch.callbacks import Callback

from sktransfer import FineTuneClassifier
from sktransfer.datasets import load_cifar10_sample

X, y = load_cifar10_sample(return_X_y=True)
X, y, X_test = X[:80], y[:80], X[1000:1100]
no_power = Path(tempfile.mkdtemp()) / "no power"
no_power.touch()


class PowerCut(Callback):
    """Breaks off in the third epoch, as long as there is no power."""

    def on_epoch_begin(self, net, **kwargs):
        """Two epochs are in the history, and the third has begun."""
        if no_power.exists() and len(net.history) == 3:
            raise OSError("no power")


def classifier(**parameters):
    """The same fit each time, but for where it leaves checkpoints."""
    return FineTuneClassifier(
        image_size=64, max_epochs=4, random_state=0, callbacks=[PowerCut()], **parameters
    )


# %%
# Broken off, and called again
# ----------------------------
folder = tempfile.mkdtemp()
try:
    classifier(checkpoint_dir=folder).fit(X, y)
except OSError as error:
    print("broken off:", error)
no_power.unlink()
resumed = classifier(checkpoint_dir=folder).fit(X, y)
print(f"{len(resumed.history_)} epochs in the history, those before the interruption included")

# %%
# The same as never interrupted
# -----------------------------
whole = classifier().fit(X, y)
same = np.array_equal(resumed.predict_proba(X_test), whole.predict_proba(X_test))
print("bit for bit the same:", same)

# %%
# Its losses, on those of the fit that was never interrupted.
import matplotlib.pyplot as plt

epochs = range(1, 5)
plt.plot(epochs, whole.history_[:, "train_loss"], color="lightgrey", linewidth=6, label="whole")
plt.plot(epochs, resumed.history_[:, "train_loss"], marker="o", label="resumed")
plt.axvline(2.5, linestyle="--", color="red", label="the power fails")
plt.xticks(epochs)
plt.xlabel("epoch")
plt.ylabel("training loss")
plt.legend()
plt.show()
