"""
Which network, and what to do with it?
======================================

One pass of each network over the labelled images says how well its codes suit them; what the
best makes of them at several depths says what to do.
"""

# %%
# Rank networks
# -------------
# Random weights are the control: a network that does not rank above them knows nothing of use.
from sktransfer import AutoTransferClassifier, CNNCodes, advise, rank_backbones
from sktransfer.datasets import load_cifar10_sample

sample = load_cifar10_sample()
X, y = sample.data[:200], sample.target[:200]

networks = {
    "lite0, 64 pixels": CNNCodes(image_size=64),
    "lite0, 96 pixels": CNNCodes(image_size=96),
    "random weights": CNNCodes(weights=None, image_size=64),
}
ranking = rank_backbones(X, y, networks, metric=["logme", "cv"])
ranking.table

# %%
ranking.plot()

# %%
# Ask for advice
# --------------
# It costs no pass: the codes are in the cache. The reasons are measurements on these images.
advice = advise(X, y, ranking)
advice

# %%
# Accuracy over depth shows whether the images are like those the network was trained on;
# the learning curve shows whether more of them would help.
advice.plot()

# %%
# The estimator is ready to fit or to search with.
advice.estimator

# %%
# Or try everything there is time for
# -----------------------------------
auto = AutoTransferClassifier(
    time_budget=20, strategies=["probe", "layers", "stacked"], image_size=96
)
auto.fit(X, y)
auto.plot_trials()
