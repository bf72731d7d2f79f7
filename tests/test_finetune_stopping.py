"""Early stopping finds a number of epochs, and costs no accuracy where it finds nothing."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from common import assert_equal, learnt
from scipy.stats import ttest_rel
from skorch.callbacks import Callback, EpochScoring, LRScheduler
from skorch.callbacks import EarlyStopping as SkorchStopping

from sktransfer import FineTuneClassifier, FineTuneRegressor
from sktransfer.exceptions import SktransferWarning
from sktransfer.finetune import EMA, GradualUnfreeze, Mixup
from sktransfer.finetune._callbacks import BestEpoch, _is_worse
from sktransfer.finetune._tasks import Labels, Values

QUICK = {"image_size": 32, "max_epochs": 3, "trainable": "head", "random_state": 0}
# At this rate the loss of labels drawn at random rises soon.
SPOILT = {"lr": 3e-2, "max_epochs": 12, "patience": 3, "schedule": "constant"}


@pytest.mark.parametrize("kind", [FineTuneClassifier, FineTuneRegressor])
@pytest.mark.parametrize(
    "more",
    [
        {"augment": "light", "dropout": 0.2, "callbacks": [Mixup(0.2), EMA(0.9)]},
        {"trainable": 1, "batchnorm": "train", "callbacks": [GradualUnfreeze()]},
        {"head": "mlp", "optimizer": "sgd", "head_init": "random"},
    ],
)
def test_where_no_epoch_is_worse_it_changes_nothing(forty, kind, more):
    """All images are trained on as without it, bit for bit."""
    parameters = {**QUICK, "max_epochs": 2, **more}
    stopped = kind(**parameters, early_stopping=True).fit(*forty)
    plain = kind(**parameters).fit(*forty)
    assert stopped.best_epoch_ == stopped.n_iter_ == 2
    assert_equal(learnt(stopped), learnt(plain))
    np.testing.assert_array_equal(stopped.predict(forty[0]), plain.predict(forty[0]))
    assert not hasattr(plain, "best_epoch_")


def test_what_is_fitted_is_a_fit_of_the_best_number_of_epochs(sample):
    X, y = sample.data[:80], np.random.default_rng(0).permutation(np.arange(80) % 4)
    more = {"validation_fraction": 0.5, "class_weight": {0: 2.0, 1: 1.0, 2: 1.0, 3: 1.0}}
    weight = 1.0 + np.arange(80) % 3
    clf = FineTuneClassifier(**{**QUICK, **SPOILT, **more}, early_stopping=True)
    clf.fit(X, y, sample_weight=weight)
    assert 1 < clf.best_epoch_ < clf.n_iter_
    assert len(clf.history_) == len(clf.net_.history) == clf.n_iter_
    assert all("valid_loss" in row for row in clf.history_)
    losses = clf.history_[:, "valid_loss"]
    assert losses[clf.best_epoch_ - 1] < losses[-1]
    plain = FineTuneClassifier(**{**QUICK, **SPOILT, **more, "max_epochs": clf.best_epoch_})
    assert_equal(learnt(clf), learnt(plain.fit(X, y, sample_weight=weight)))
    # What was found before is forgotten by a fit without it.
    assert not hasattr(clf.set_params(early_stopping=False, max_epochs=1).fit(X, y), "best_epoch_")


def test_training_never_ends_in_the_warmup(sample):
    X, y = sample.data[:40], np.arange(40) % 4
    held_out = sample.data[40:80], y
    clf = FineTuneClassifier(**{**QUICK, **SPOILT, "patience": 1}, early_stopping=True)
    assert clf.fit(X, y, validation_data=held_out).n_iter_ == 5  # 4 of 12 epochs rise
    assert clf.set_params(warmup=0.7).fit(X, y, validation_data=held_out).n_iter_ >= 10


@pytest.mark.parametrize("weighted", [False, True])
def test_worse_is_what_a_paired_test_and_the_accuracy_say(weighted):
    """Against scipy, image by image; weights of zero are images that are not there."""
    draw = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        n = int(draw.integers(2, 60))
        before = draw.normal(1, 1, n)
        now = before + draw.normal(0.3, 1, n)
        right = [draw.random(n) < share for share in (0.6, 0.7)]
        gained = right[1].astype(float) - right[0]
        error = gained.std(ddof=1) / np.sqrt(n)
        by_loss = ttest_rel(now, before, alternative="greater").pvalue < 0.025
        expected = by_loss and gained.mean() <= error * (1 + 1e-6)
        weight = np.ones(n)
        if weighted:
            before, now = (np.append(one, [0.0, 1e3]) for one in (before, now))
            right = [np.append(one, [True, False]) for one in right]
            weight = np.append(weight, [0.0, 0.0])
        then, later = (
            {"losses": torch.tensor(losses), "right": torch.tensor(one).double()}
            for losses, one in ((before, right[0]), (now, right[1]))
        )
        assert _is_worse(later, then, torch.tensor(weight).float()) == expected
        seen.add((bool(by_loss), bool(expected)))
    assert seen == {(False, False), (True, False), (True, True)}


def test_one_image_or_no_weight_tells_nothing():
    now, then = ({"losses": torch.tensor([loss, loss])} for loss in (5.0, 1.0))
    assert _is_worse(now, then, torch.tensor([1.0, 1.0]))
    assert not _is_worse(now, then, torch.tensor([1.0, 0.0]))
    assert not _is_worse(now, then, torch.zeros(2))


def run(losses, *, patience=2, warmup=0, restores=True):
    """The epochs of a net whose images have these losses, a row for each epoch."""
    module = torch.nn.Linear(1, 1)
    task = SimpleNamespace(
        joined=torch.cat, losses=lambda out, target: out[:, 0], hits=lambda out, target: None
    )
    net = SimpleNamespace(history=[], module_=module, recipe=SimpleNamespace(task=task))
    valid = SimpleNamespace(target=torch.zeros(4, 1), weight=torch.ones(4))
    callback = BestEpoch(patience, warmup, restores=restores)
    callback.on_train_begin(net)
    try:
        for number, row in enumerate(losses, start=1):
            net.history.append({})
            torch.nn.init.constant_(module.weight, number)
            batch = None, valid.target
            callback.on_batch_end(net, batch, training=False, y_pred=torch.tensor(row)[:, None])
            callback.on_epoch_end(net, dataset_valid=valid)
    except KeyboardInterrupt:
        pass
    callback.on_train_end(net)
    return len(net.history), callback.best_epoch_, float(module.weight.detach())


LOW, NOISE, HIGH = [1.0, 1, 1, 1], [1.0, 1.4, 1.5, 0.8], [2.0, 2.1, 2.2, 2.3]


@pytest.mark.parametrize(
    ("losses", "more", "expected"),
    [
        ([HIGH, LOW, NOISE, NOISE, NOISE], {}, (5, 5, 5)),  # noise is no reason
        ([LOW, HIGH, HIGH, HIGH], {}, (3, 1, 1)),
        ([LOW, HIGH, NOISE, HIGH, NOISE], {}, (5, 5, 5)),  # not one after the other
        ([LOW, HIGH, HIGH, HIGH, HIGH], {"warmup": 2}, (4, 1, 1)),
        ([LOW, HIGH, HIGH], {"restores": False}, (3, 1, 3)),
        ([LOW, HIGH], {}, (2, 1, 1)),  # the last epoch is worse
        ([[float("nan")] * 4, LOW, HIGH], {}, (3, 2, 2)),
        ([], {}, (0, 0, None)),
    ],
)
def test_the_rule(losses, more, expected):
    found = run(losses, **more)
    assert found[:2] == expected[:2]
    if expected[2] is not None:
        assert found[2] == expected[2]


def test_few_that_are_held_out_are_warned_of(forty, sample):
    clf = FineTuneClassifier(**{**QUICK, "max_epochs": 0}, early_stopping=True)
    with pytest.warns(SktransferWarning, match="some 100 samples .*4 samples are held out"):
        clf.fit(*forty)
    held_out = sample.data[100:200], sample.target[100:200] % 2
    with pytest.warns(SktransferWarning, match="99 samples are held out"):
        clf.fit(*forty, validation_data=(held_out[0][1:], held_out[1][1:]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", SktransferWarning)
        clf.fit(*forty, validation_data=held_out)
        clf.set_params(early_stopping=False).fit(*forty)


def test_it_is_no_matter_of_partial_fit(forty):
    plain, stopped = (
        FineTuneClassifier(**QUICK, early_stopping=early).fit(*forty, validation_data=forty)
        for early in (False, True)
    )
    for one in (plain, stopped):
        one.partial_fit(forty[0][:5], forty[1][:5]).partial_fit(forty[0][:1], forty[1][:1])
    assert_equal(learnt(stopped), learnt(plain))
    assert "valid_loss" not in stopped.history_[-1]
    scored = stopped.set_params(callbacks=[EpochScoring("accuracy", name="own")])
    scored.fit(*forty).partial_fit(*forty)
    assert "own" in scored.history_[0] and "own" not in scored.history_[-1]
    stopped.set_params(callbacks=[SkorchStopping()])
    with pytest.raises(ValueError, match=r"nothing is held out .*partial_fit validates on nothing"):
        stopped.partial_fit(*forty)
    # After all images were trained on, too.
    stopped = FineTuneClassifier(**QUICK, early_stopping=True).fit(*forty)
    stopped.partial_fit(*forty)
    assert stopped.n_iter_ == 4 and stopped.best_epoch_ == 3


def test_warm_start(forty):
    """A second fit begins where the first ended, in the epochs that are validated and after."""
    plain, stopped = (
        FineTuneClassifier(**QUICK, warm_start=True, early_stopping=early)
        for early in (False, True)
    )
    for one in (plain, stopped):
        one.fit(*forty).fit(*forty)
    assert stopped.best_epoch_ == stopped.n_iter_ == 6
    assert_equal(learnt(stopped), learnt(plain))


class Counts(Callback):
    def __init__(self):
        self.fits, self.seen = 0, []

    def on_train_begin(self, net, **_):
        self.fits += 1

    def on_epoch_end(self, net, **_):
        self.seen.append(net.history[-1, "valid_loss"])


def test_callbacks_find_validation_in_both_fits(forty):
    counts, accuracy = Counts(), EpochScoring("accuracy", name="own", lower_is_better=False)
    clf = FineTuneClassifier(**QUICK, early_stopping=True, callbacks=[counts, ("own", accuracy)])
    clf.fit(*forty)
    assert counts.fits == 2 and len(counts.seen) == 6
    assert clf.history_[:, "own"] == clf.history_[:, "valid_acc"]
    assert clf.history_[:, "valid_loss"] == counts.seen[:3]


@pytest.mark.parametrize(
    "more",
    [
        {"callbacks": [SkorchStopping(monitor="valid_acc", lower_is_better=False)]},
        {"schedule": LRScheduler("ReduceLROnPlateau", monitor="valid_loss")},
    ],
)
def test_what_watches_validation_itself_is_no_matter_of_a_second_fit(forty, more):
    counts = Counts()
    more = {**more, "callbacks": [*more.get("callbacks", []), counts]}
    clf = FineTuneClassifier(**QUICK, early_stopping=True, **more).fit(*forty)
    assert counts.fits == 1
    assert 1 <= clf.best_epoch_ <= clf.n_iter_ <= 3


@pytest.mark.parametrize("n_groups", [2, 3, 7])
@pytest.mark.parametrize("stratified", [False, True])
def test_few_groups(n_groups, stratified):
    """Also where one group holds nearly everything, neither side is empty."""
    for groups in (np.arange(40) % n_groups, np.minimum(np.arange(40), n_groups - 1)):
        for classes in (2, 40):
            kind = Labels if stratified else Values
            task, target = kind.of(np.arange(40) % classes, 40)
            learn, validate = task.split(target, groups, 0.1, 0)
            assert len(learn) and len(validate) and len(learn) + len(validate) == 40
            assert not set(groups[learn]) & set(groups[validate])


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_every_class_is_on_both_sides(fraction):
    numbers = np.repeat([0, 1, 3], 2)
    task, target = Labels.of(numbers, 6)
    for side in task.split(target, None, fraction, 0):
        assert set(numbers[side]) == {0, 1, 3}


def test_what_cannot_be_split(forty):
    clf = FineTuneClassifier(**QUICK, early_stopping=True)
    with pytest.raises(ValueError, match="at least 2 groups to hold one out, got 1"):
        clf.fit(*forty, groups=np.zeros(40))
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples"):
        clf.fit(*forty, groups=np.arange(39))
    with pytest.raises(ValueError, match="needs at least 2, got 1"):
        FineTuneRegressor(**QUICK, early_stopping=True).fit(forty[0][:1], [1.0])


@pytest.mark.slow
@pytest.mark.parametrize("n", [150, 300])
def test_it_does_no_harm_to_a_few_hundred_images(sample, n):
    X, y = sample.data, sample.target
    plain, stopped = (
        FineTuneClassifier(image_size=96, max_epochs=8, random_state=0, early_stopping=early)
        .fit(X[:n], y[:n])
        .score(X[1000:1500], y[1000:1500])
        for early in (False, True)
    )
    assert stopped >= plain - 0.01
