"""unfreeze, gradual unfreezing, warm starts and the range of learning rates."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from common import learnt
from skorch.callbacks import Callback

from sktransfer import CNNCodes, FineTuneClassifier, FineTuneRegressor, Preprocessing
from sktransfer.exceptions import InputError, LayerError, SktransferWarning, TrainingError
from sktransfer.finetune import EMA, GradualUnfreeze

QUICK = {"image_size": 32, "max_epochs": 1, "batch_size": 10, "random_state": 0}


class Movement(Callback):
    """Names of the parameters that moved, epoch by epoch."""

    def initialize(self):
        self.epochs_ = []
        return self

    def on_epoch_begin(self, net, **_):
        self.before_ = {n: p.detach().clone() for n, p in net.module_.named_parameters()}

    def on_epoch_end(self, net, **_):
        named = net.module_.named_parameters()
        self.epochs_.append({n for n, p in named if not torch.equal(p, self.before_[n])})


def test_unfreeze_keeps_what_was_learnt(thirty):
    X, y = thirty
    clf = FineTuneClassifier(**QUICK, trainable=1).fit(X, y)
    before, probabilities = learnt(clf), clf.predict_proba(X)
    assert clf.unfreeze(3) is clf
    assert clf.trainable == 1
    np.testing.assert_allclose(clf.predict_proba(X), probabilities, atol=1e-4)
    for name, value in before.items():
        np.testing.assert_array_equal(learnt(clf)[name], value)


@pytest.mark.parametrize("how", ["partial_fit", "warm_start"])
def test_unfreeze_lets_earlier_stages_learn(thirty, how):
    clf = FineTuneClassifier(**QUICK, trainable=1, warm_start=how == "warm_start").fit(*thirty)
    assert [layer.learns for layer in clf.layers_][-3:] == [False, True, True]
    clf.unfreeze(3)
    before = learnt(clf)
    clf.fit(*thirty) if how == "warm_start" else clf.partial_fit(*thirty)
    assert [layer.learns for layer in clf.layers_][-5:] == [False, True, True, True, True]
    after = learnt(clf)
    changed = {name for name in after if not np.array_equal(after[name], before[name])}
    # Of each of the last three stages something moved.
    stages = {clf._load_model().stage_of.get(n.removeprefix("tail."), "head") for n in changed}
    n_stages = len(clf._load_model().stages)
    assert stages == {n_stages - 3, n_stages - 2, n_stages - 1, "head"}
    assert clf.n_iter_ == 2 and len(clf.history_) == 2
    assert clf.history_[1]["epoch"] == 2


def test_unfreeze_after_a_pickle(thirty, tmp_path):
    import joblib

    X, y = thirty
    clf = FineTuneClassifier(**QUICK, trainable="head").fit(X, y)
    joblib.dump(clf, tmp_path / "clf")
    loaded = joblib.load(tmp_path / "clf").unfreeze(1)
    np.testing.assert_allclose(loaded.predict_proba(X), clf.predict_proba(X), atol=1e-4)
    loaded.partial_fit(X, y)
    joblib.dump(loaded, tmp_path / "clf")
    again = joblib.load(tmp_path / "clf")
    np.testing.assert_array_equal(again.predict_proba(X), loaded.predict_proba(X))
    assert again.n_iter_ == 2


def test_unfreeze_does_not_freeze(thirty):
    clf = FineTuneClassifier(**QUICK, trainable=2).fit(*thirty)
    with pytest.raises(LayerError, match=r"unfreeze\(1\) must include all layers trained"):
        clf.unfreeze(1)
    with pytest.raises(LayerError, match="number of stages"):
        clf.unfreeze(99)
    assert clf._fitted.design.trainable == 2


def test_gradual_unfreezing(thirty):
    """The head first, then a stage more every two epochs."""
    moved = Movement()
    parameters = {**QUICK, "max_epochs": 7, "schedule": "constant"}
    clf = FineTuneClassifier(**parameters, trainable=2, callbacks=[GradualUnfreeze(2), moved])
    clf.fit(*thirty)
    last = len(clf._load_model().stages) - 1
    for epoch, names in enumerate(moved.epochs_):
        stages = {clf._load_model().stage_of.get(n.removeprefix("tail."), "head") for n in names}
        expected = [{"head"}, {"head", last}, {"head", last, last - 1}][min(epoch // 2, 2)]
        assert stages == expected, f"epoch {epoch}"
        rates = clf.history_[epoch]
        learning = {name for name in ("head", "blocks.6", "blocks.5") if rates[f"lr {name}"] > 0}
        names = {"head": "head", last: "blocks.6", last - 1: "blocks.5"}
        assert learning == {names[stage] for stage in expected}


def test_stages_that_did_not_begin_are_told(thirty):
    parameters = {**QUICK, "max_epochs": 3, "schedule": "constant"}
    clf = FineTuneClassifier(**parameters, trainable=2, callbacks=[GradualUnfreeze(2)])
    message = r"every=2\) needs 5 epochs for all 2 stages .* max_epochs=3: 1 of 2 are trained"
    with pytest.warns(SktransferWarning, match=message):
        clf.fit(*thirty)
    assert [layer.name for layer in clf.layers_ if layer.learns] == ["blocks.6", "head"]
    assert clf.n_trainable_parameters_ == sum(layer.n_trainable for layer in clf.layers_[-2:])
    message = r"every=3\) needs 7 epochs .* max_epochs=3: the head alone is trained"
    with pytest.warns(SktransferWarning, match=message):
        clf.set_params(callbacks=[GradualUnfreeze(3)]).fit(*thirty)
    assert [layer.name for layer in clf.layers_ if layer.learns] == ["head"]


def test_going_on_needs_the_network_as_it_was_built(thirty):
    clf = FineTuneClassifier(**QUICK, trainable="head", warm_start=True).fit(*thirty)
    before = clf.predict_proba(thirty[0])
    with pytest.raises(InputError, match=r"trainable='head'.*got trainable=1.*unfreeze\(1\)"):
        clf.set_params(trainable=1).fit(*thirty)
    with pytest.raises(InputError, match=r"head='linear'.*got head='mlp'.*warm_start=False"):
        clf.set_params(trainable="head", head="mlp").partial_fit(*thirty)
    np.testing.assert_array_equal(clf.predict_proba(thirty[0]), before)
    clf.set_params(head="linear").unfreeze(1)
    clf.fit(*thirty)
    assert [layer.name for layer in clf.layers_ if layer.learns] == ["blocks.6", "head"]


def test_every_fit_has_its_own_schedule(thirty):
    """A fit that continues rises and falls like the first one; partial_fit as well."""
    lrs = []

    class Rates(Callback):
        def on_batch_end(self, net, training, **_):
            if training:
                lrs.append(net.optimizer_.param_groups[0]["lr"])

    parameters = {**QUICK, "max_epochs": 3, "callbacks": [Rates()], "warm_start": True}
    clf = FineTuneClassifier(**parameters, trainable="head").fit(*thirty).fit(*thirty)
    assert lrs[:9] == pytest.approx(lrs[9:])
    clf.partial_fit(*thirty)
    # One step of warm-up, then half a cosine over two; read after the schedule's own step.
    assert lrs[18:] == pytest.approx([2e-3, 1e-3, 0], abs=1e-9)


@pytest.mark.parametrize("kind", [FineTuneClassifier, FineTuneRegressor])
def test_lr_find(thirty, kind):
    X, y = thirty
    clf = kind(**QUICK, trainable=1).fit(X, y)
    before, parameters = learnt(clf), clf.get_params()
    found = clf.lr_find(X, y, start=1e-5, end=1e4, n_steps=40)
    assert clf.get_params() == parameters
    assert all(np.array_equal(learnt(clf)[name], before[name]) for name in before)
    assert len(found.lrs) == len(found.losses) <= 40
    np.testing.assert_allclose(found.lrs[1:] / found.lrs[:-1], (1e9) ** (1 / 39))
    assert found.lrs[0] == pytest.approx(1e-5)
    # Rates of 1e4 make any loss diverge; the suggestion is below that.
    assert found.losses[-1] > 1.5 * found.losses.min()
    assert found.suggestion_ == found.lrs[found.losses.argmin()] / 10 < 1
    ax = found.plot()
    assert len(ax.lines) == 2


def test_lr_find_of_an_estimator_that_is_not_fitted(thirty):
    clf = FineTuneClassifier(**QUICK, trainable="head", early_stopping=True, callbacks=[EMA(0.5)])
    clf.lr_find(*thirty, n_steps=5)
    assert not hasattr(clf, "net_") and not hasattr(clf, "classes_")


@pytest.mark.parametrize("wrong", [{"start": 0}, {"start": 1, "end": 0.1}, {"n_steps": 1}])
def test_lr_find_refuses(thirty, wrong):
    with pytest.raises(ValueError, match="must be"):
        FineTuneClassifier(**QUICK).lr_find(*thirty, **wrong)


def test_lr_find_gives_errors_on(thirty):
    """A loss that is not a number from the start is no range."""
    X, y = thirty
    weight = np.full(30, 1e300)
    with pytest.raises((TrainingError, ValueError)):
        FineTuneClassifier(**QUICK, head_init="random").lr_find(X, y, weight)


CHANGED = {
    "backbone": "resnet18",
    "weights": None,
    "image_size": 48,
    "dropout": 0.5,
    "resize": "squash",
    "crop_pct": 0.5,
    "value_range": (0, 128),
    "image_shape": (32, 32, 3),
    "preprocessing": {"image_size": 64, "mean": (0.1,) * 3, "std": (0.2,) * 3},
}


@pytest.fixture(scope="module")
def head_alone(thirty):
    return FineTuneClassifier(**QUICK, trainable="head", warm_start=True).fit(*thirty)


@pytest.mark.parametrize("name", CHANGED)
def test_going_on_needs_what_decided_the_network(thirty, head_alone, name):
    clf = pickle.loads(pickle.dumps(head_alone)).set_params(**{name: CHANGED[name]})
    for continues in (clf.fit, clf.partial_fit):
        with pytest.raises(InputError, match=f"Continuing needs {name}=.*warm_start=False"):
            continues(*thirty)


def test_the_same_in_other_words_goes_on(thirty, head_alone):
    clf = pickle.loads(pickle.dumps(head_alone))
    clf.set_params(image_size=(np.int64(32), 32)).partial_fit(*thirty)
    assert clf.n_iter_ == 2


class Plain(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Conv2d(3, 4, 3, stride=2)
        self.fc = torch.nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))


FACTS = {"image_size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}


@pytest.mark.parametrize("kind", ["classifier", "codes"])
def test_going_on_with_a_module(thirty, kind):
    X, y = thirty
    own = {"backbone": Plain(), "preprocessing": FACTS}
    est = CNNCodes(**own) if kind == "codes" else FineTuneClassifier(**QUICK, **own, trainable=0)
    if kind == "classifier":
        est.set_params(trainable="head")
    est = pickle.loads(pickle.dumps(est.fit(X, y)))
    est.set_params(preprocessing=Preprocessing(**FACTS)).partial_fit(X, y)
    with pytest.raises(InputError, match=r"Continuing needs backbone=Plain.*got another Plain"):
        est.set_params(backbone=Plain()).partial_fit(X, y)


@pytest.mark.parametrize(
    ("name", "value"), [("layer", -2), ("pooling", "max"), ("backbone", "resnet18"),
                        ("normalize", "l2"), ("image_size", 64)],
)  # fmt: skip
def test_codes_go_on_as_they_were(thirty, name, value):
    codes = CNNCodes(image_size=32).fit(thirty[0]).partial_fit(thirty[0])
    with pytest.raises(InputError, match=f"Continuing needs {name}=.*call fit"):
        codes.set_params(**{name: value}).partial_fit(thirty[0])


def test_class_weight_is_taken_as_it_is_now(thirty):
    X, y = thirty
    clf = FineTuneClassifier(**QUICK, trainable="head", warm_start=True).fit(X, y)
    fresh = pickle.loads(pickle.dumps(clf)).fit(X, y).predict_proba(X)
    with pytest.raises(ValueError, match="balanced"):
        clf.set_params(class_weight="balanced").partial_fit(X, y)
    clf.set_params(class_weight={0: 100.0, 1: 1.0, 2: 1.0}).fit(X, y)
    assert (clf.predict_proba(X)[:, 0] - fresh[:, 0]).mean() > 0
