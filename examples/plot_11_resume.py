"""
Go on after a fit was killed
============================

A fit that names a folder leaves a checkpoint there after each epoch, and the same call goes on from
the last one. Here the first fit is broken off after two epochs, as Ctrl-C would.
"""

# %%
import tempfile

import numpy as np
from skorch.callbacks import Callback

from sktransfer import FineTuneClassifier
from sktransfer.datasets import load_cifar10_sample

X, y = load_cifar10_sample(return_X_y=True)
X, y, X_test = X[:80], y[:80], X[1000:1100]


class Interrupt(Callback):
    """Breaks off in the third epoch."""

    def on_epoch_begin(self, net, **kwargs):
        """Two epochs are in the history, and the third has begun."""
        if len(net.history) == 3:
            raise KeyboardInterrupt


def classifier(**parameters):
    """The same fit each time, but for where it writes and what watches it."""
    return FineTuneClassifier(image_size=64, max_epochs=4, random_state=0, **parameters)


# %%
# Broken off, and called again
# ----------------------------
folder = tempfile.mkdtemp()
try:
    classifier(checkpoint_dir=folder, callbacks=[Interrupt()]).fit(X, y)
except KeyboardInterrupt:
    print("broken off")
resumed = classifier(checkpoint_dir=folder).fit(X, y)
print(f"{len(resumed.history_)} epochs in the history, those before the interruption included")

# %%
# The same as never interrupted
# -----------------------------
whole = classifier().fit(X, y)
same = np.array_equal(resumed.predict_proba(X_test), whole.predict_proba(X_test))
print("bit for bit the same:", same)
