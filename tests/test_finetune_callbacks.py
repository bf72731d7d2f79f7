"""EMA, Mixup and GradualUnfreeze: what they do by hand, and that fits leave them as they are."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback, GradientNormClipping

from sktransfer import FineTuneClassifier, FineTuneRegressor
from sktransfer.finetune import EMA, GradualUnfreeze, Mixup

QUICK = {"image_size": 32, "trainable": "head", "max_epochs": 2, "batch_size": 8, "random_state": 0}


def head(clf):
    return clf.net_.module_.head[-1].weight.detach().clone()


class Watches(Callback):
    """Weights and inputs of the head, and what came from the data."""

    def initialize(self):
        self.weights_, self.batches_, self.inputs_ = [], [], []
        return self

    def on_train_begin(self, net, **_):
        self.weights_.append(net.module_.head[-1].weight.detach().clone())
        self.hook_ = net.module_.register_forward_pre_hook(
            lambda module, args: self.inputs_.append(args[0]) if module.training else None
        )

    def on_batch_begin(self, net, batch, training, **_):
        if training:
            self.batches_.append(batch[0])

    def on_batch_end(self, net, training, **_):
        if training:
            self.weights_.append(net.module_.head[-1].weight.detach().clone())

    def on_train_end(self, net, **_):
        self.hook_.remove()


def test_the_average_by_hand(thirty):
    watches = Watches()
    clf = FineTuneClassifier(**QUICK, lr=1e-2, callbacks=[watches, ("average", EMA(0.6))])
    clf.fit(*thirty)
    first, *rest = watches.weights_
    assert len(rest) == 8
    mean = first.double()
    for step, weight in enumerate(rest, 1):
        decay = min(0.6, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * weight.double()
    torch.testing.assert_close(head(clf).double(), mean, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(head(clf), rest[-1], rtol=1e-4)


@pytest.mark.parametrize("kind", [FineTuneClassifier, FineTuneRegressor])
def test_mixing_by_hand(thirty, kind):
    watches = Watches()
    est = kind(**QUICK, callbacks=[Mixup(0.4), watches]).fit(*thirty)
    draws = np.random.default_rng(est._fitted.design.seed)
    shares = []
    for plain, mixed in zip(watches.batches_, watches.inputs_, strict=True):
        shares.append(draws.beta(0.4, 0.4))
        others = plain[draws.permutation(len(plain))]
        torch.testing.assert_close(mixed, shares[-1] * plain + (1 - shares[-1]) * others)
    assert len(set(shares)) == 8
    # The next fit draws the same.
    losses = est.history_[:, "train_loss"]
    assert est.set_params(callbacks=[Mixup(0.4)]).fit(*thirty).history_[:, "train_loss"] == losses


OURS = [Mixup(0.3), EMA(0.9), ("stages", GradualUnfreeze(1)), GradientNormClipping(1.0)]


@pytest.mark.slow
def test_a_fit_leaves_the_callbacks_of_the_parameters_as_they_are(thirty):
    given = copy.deepcopy(OURS[:3])
    clf = FineTuneClassifier(**{**QUICK, "trainable": 1}, callbacks=given).fit(*thirty)
    assert clf.callbacks is given
    for one, before in zip(given, OURS, strict=False):
        one, before = (x[1] if isinstance(x, tuple) else x for x in (one, before))
        assert vars(one) == vars(before)
    assert dict(clf.net_.callbacks_)["stages"] is not given[2][1]
    expected = clf.predict_proba(thirty[0])
    for again in (pickle.loads(pickle.dumps(clf)), clone(clf).fit(*thirty)):
        np.testing.assert_array_equal(again.predict_proba(thirty[0]), expected)
        assert repr(again.callbacks[0]) == "Mixup(alpha=0.3)"
    # What continues continues with them.
    clf.partial_fit(*thirty)
    again = clone(clf).fit(*thirty).partial_fit(*thirty)
    np.testing.assert_array_equal(again.predict_proba(thirty[0]), clf.predict_proba(thirty[0]))


@pytest.mark.slow
def test_a_search_over_callbacks(thirty):
    clf = FineTuneClassifier(**QUICK, lr=1e-2)
    grid = {"callbacks": [None, [Mixup(0.4)], [EMA], [GradientNormClipping(1e-6)]]}
    search = GridSearchCV(clf, grid, cv=2, error_score="raise").fit(*thirty)
    best = clone(clf).set_params(callbacks=search.best_params_["callbacks"]).fit(*thirty)
    expected = best.predict_proba(thirty[0])
    np.testing.assert_array_equal(search.best_estimator_.predict_proba(thirty[0]), expected)
    plain = head(clone(clf).fit(*thirty))
    for callbacks in grid["callbacks"][1:]:
        assert not torch.equal(head(clone(clf).set_params(callbacks=callbacks).fit(*thirty)), plain)


def test_they_do_without_validation_when_all_images_are_trained_on(thirty, monkeypatch):
    """The second part of early stopping validates for callbacks that score, and for no others."""
    from sktransfer.finetune._training import Trainer

    seen, plain = [], Trainer.train

    def train(self, part, validate, *rest):
        seen.append(validate is not None)
        return plain(self, part, validate, *rest)

    monkeypatch.setattr(Trainer, "train", train)
    early = {**QUICK, "early_stopping": True, "validation_fraction": 0.3}
    FineTuneClassifier(**early, callbacks=OURS).fit(*thirty)
    FineTuneClassifier(**early, callbacks=[*OURS, Watches()]).fit(*thirty)
    assert seen == [True, False, True, True]


@pytest.mark.parametrize(
    "make",
    [lambda: EMA(1.0), lambda: EMA(-0.1), lambda: Mixup(0), lambda: GradualUnfreeze(0),
     lambda: Mixup(float("nan"))],
)  # fmt: skip
def test_values_that_are_refused(make):
    with pytest.raises(ValueError, match=r"must be .*, got"):
        make()
