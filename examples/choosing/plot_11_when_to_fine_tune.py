"""
When and how to fine-tune?
==========================

Images are few or many, and like or unlike those that the network was trained on. `advise`
finds which, by measurement, and what it calls for; `AutoTransferClassifier` puts it to the test.
"""

# %%
# Images like those of ImageNet
# ----------------------------------
# No earlier layer is surely better than the last.
from sklearn.datasets import load_digits

from sktransfer import AutoTransferClassifier, advise
from sktransfer.datasets import load_cifar10_sample

sample = load_cifar10_sample()
photos = advise(sample.data[:200], sample.target[:200], image_size=64, cv=3)
print(f"{photos.scenario}: {photos.strategy}")
for reason in photos.reasons:
    print("-", reason)

# %%
# Images unlike them
# ------------------
# For scanned digits an earlier layer is far better than the last.
digits = load_digits()
scans = advise(digits.images[:200], digits.target[:200], value_range=(0, 16), image_size=64, cv=3)
print(f"{scans.scenario}: {scans.strategy}; it ends with {scans.layer}")
scans.plot()

# %%
# Try it instead
# --------------
# Strategies are tried from the cheapest to the dearest as far as the time goes.
auto = AutoTransferClassifier(
    strategies=["probe", "layers", "fine-tune last"],
    image_size=64,
    time_budget=60,
    max_epochs=3,
    cv=2,
    random_state=0,
)
auto.fit(sample.data[:120], sample.target[:120])
auto.plot_trials()
