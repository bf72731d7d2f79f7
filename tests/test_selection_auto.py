"""Trials: what is tried, what is kept, and that it stops in time."""

from __future__ import annotations

import pickle
import re
import time
import warnings
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import VotingClassifier
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from skorch.history import History

from sktransfer import AutoTransferClassifier, CNNCodes, FineTuneClassifier
from sktransfer.exceptions import ImageError, ValueRangeWarning
from sktransfer.selection import _trials
from sktransfer.selection._features import pass_over
from sktransfer.selection._kinds import LABELS
from sktransfer.selection._trials import Judge, Trial, best_of


@pytest.fixture(scope="module")
def trials(labelled):
    auto = AutoTransferClassifier(
        time_budget=None, image_size=32, max_epochs=1, cv=2, random_state=0
    )
    return auto.fit(*labelled)


def test_every_rung_is_tried_and_the_best_is_kept(trials, labelled):
    results = trials.cv_results_
    names = list(results["strategy"])
    tuned = [name for name in names if name.startswith("fine-tune")]
    assert names[0] == "probe" and tuned[0] == "fine-tune last"
    assert tuned[1].startswith("fine-tune last, up to blocks.")
    assert len(tuned) == 3 and tuned[2].startswith("fine-tune all")
    assert sum(name.startswith("layer ") for name in names) >= 4
    assert sum(name.startswith("stacked ") for name in names) == 1
    assert np.isfinite(results["mean_test_score"]).all()
    best = int(np.argmax(results["mean_test_score"]))
    assert results["rank_test_score"][best] == 1
    votes = [name for name in names if name.startswith("vote of ")]
    assert trials.best_strategy_ in (names[best], *votes) and len(votes) <= 1
    probes = [m for n, m in zip(names, results["mean_test_score"], strict=True) if "tune" not in n]
    assert trials.best_score_ >= max(probes) - np.sqrt(0.25 / len(labelled[1]))
    assert trials.score(*labelled) > 0.8


def test_the_leaderboard_is_what_was_tried(trials):
    board, results = trials.leaderboard(), trials.cv_results_
    assert list(board) == ["strategy", "layer", "mean_score", "std", "folds", "seconds", "chosen",
                           "note"]  # fmt: skip
    assert board["strategy"][0] == trials.best_strategy_ and board["chosen"].sum() == 1
    assert sorted(board["strategy"]) == sorted(results["strategy"])
    scores = dict(zip(results["strategy"], results["mean_test_score"], strict=True))
    assert board["mean_score"].tolist() == [scores[name] for name in board["strategy"]]
    layers = dict(zip(board["strategy"], board["layer"], strict=True))
    assert layers["probe"] == "global_pool" and layers["layer blocks.5"] == "blocks.5"
    assert "np.float64" not in str(board.to_dict("records"))
    shown = trials._repr_mimebundle_()["text/html"]
    assert "layer blocks.5" in shown and "mean accuracy" in shown
    assert "<table>" in trials._repr_html_() and "mean accuracy" not in clone(trials)._repr_html_()


@pytest.mark.slow
def test_scores_are_those_of_scikit_learn(trials, labelled):
    folds = LABELS.make_splits(labelled[1], 2)
    scores = cross_val_score(clone(trials.best_estimator_), *labelled, cv=folds)
    assert scores.mean() == pytest.approx(trials.best_score_, abs=0.02)


def test_codes_are_computed_once(labelled, passes):
    X, y = labelled
    strategies = ["probe", "layers", "stacked"]
    AutoTransferClassifier(strategies=strategies, image_size=32).fit(X, y).predict(X)
    assert passes["images"] == len(X)


def test_without_time_the_probe_is_there_all_the_same(labelled):
    auto = AutoTransferClassifier(time_budget=0, image_size=32).fit(*labelled)
    assert auto.best_strategy_ == "probe"
    tried = np.isfinite(auto.cv_results_["mean_test_score"])
    assert tried.tolist() == [True] + [False] * (len(tried) - 1)
    assert all(reason.startswith("no time") for reason in auto.cv_results_["reason"][1:])


def test_a_rung_that_would_take_too_long_is_not_begun(labelled, monkeypatch):
    """A trial that tells of an hour is believed."""
    monkeypatch.setattr(_trials, "seconds_of_fit", lambda *_: 3600.0)
    start = time.perf_counter()
    auto = AutoTransferClassifier(
        time_budget=600, image_size=32, strategies=["probe", "fine-tune last", "fine-tune all"]
    ).fit(*labelled)
    assert time.perf_counter() - start < 300
    told = r"a fold and the last fit would take about 90\d\d\.\d s"
    assert re.search(told, auto.cv_results_["reason"][1])
    assert auto.best_strategy_ == "probe"


@pytest.mark.slow
def test_resize_modes_are_tried_where_images_are_not_square(labelled):
    """What matters stands at the ends of wide images, where a crop does not look."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    X = rng.integers(100, 156, size=(60, 32, 96, 3), dtype=np.uint8)
    X[y == 1, :, :16] = 255
    X[y == 0, :, -16:] = 255
    strategies = ["probe", "resize", "layers"]
    auto = AutoTransferClassifier(strategies=strategies, image_size=32, cv=2).fit(X, y)
    names = list(auto.cv_results_["strategy"])
    assert names[:3] == ["probe", "probe, resized by squash", "probe, resized by crop"]
    scores = dict(zip(names, auto.cv_results_["mean_test_score"], strict=True))
    assert scores["probe, resized by crop"] < max(scores["probe"], scores[names[1]])
    alone = AutoTransferClassifier(strategies=["probe"], image_size=32, cv=2, resize="crop")
    alone.fit(X, y)
    assert alone.best_score_ == scores["probe, resized by crop"]
    assert not any("resized" in name for name in _strategies_of(strategies, X, y, resize="squash"))
    assert not any("resized" in name for name in _strategies_of(strategies, *labelled))


def _strategies_of(strategies, X, y, **params):
    auto = AutoTransferClassifier(strategies=strategies, image_size=32, cv=2, **params).fit(X, y)
    return list(auto.cv_results_["strategy"])


def test_what_follows_takes_the_best_resize_mode():
    """Only a crop shows what matters: the ends say nothing, and squashing hides it."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    X = np.tile(rng.integers(0, 256, size=(60, 32, 320, 1), dtype=np.uint8), 3)
    stripes = np.tile([[0, 255], [0, 255]], (16, 16)).repeat(3).reshape(32, 32, 3)
    X[y == 1, :, 144:176] = stripes
    X[y == 0, :, 144:176] = stripes.transpose(1, 0, 2)
    auto = AutoTransferClassifier(strategies=["probe", "resize", "layers"], image_size=32, cv=2)
    auto.fit(X, y)
    results = auto.cv_results_
    scores = dict(zip(results["strategy"], results["mean_test_score"], strict=True))
    assert scores["probe, resized by crop"] > scores["probe"]
    alone = AutoTransferClassifier(strategies=["layers"], image_size=32, cv=2, resize="crop")
    results = alone.fit(X, y).cv_results_
    layers = dict(zip(results["strategy"], results["mean_test_score"], strict=True))
    assert {name: scores[name] for name in layers if name != "probe"} == {
        name: score for name, score in layers.items() if name != "probe"
    }
    assert auto.best_estimator_.get_params()["codes__resize"] == "crop"


def test_copies_are_never_parted():
    """Noise whose labels can be learnt only by having seen the same picture."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, size=(30, 16, 16, 3), dtype=np.uint8)
    labels = rng.permutation(np.arange(30) % 2)
    auto = AutoTransferClassifier(strategies=["probe"], image_size=32)
    auto.fit(np.tile(noise, (4, 1, 1, 1)), np.tile(labels, 4))
    assert auto.best_score_ < 0.8


def test_as_many_folds_as_there_is_time_for(labelled, monkeypatch):
    """Each fold seems to take 40 of 120 seconds, and the last fit 60; the clock is moved on."""
    moved = [0.0]
    monkeypatch.setattr(_trials, "seconds_of_fit", lambda *_: 40.0)
    monkeypatch.setattr(_trials, "held_out", lambda *of: fold(moved, *of))
    clock = time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + moved[0])

    def fold(moved, estimator, X, y, learn, test, kind):
        moved[0] += 40.0
        return np.eye(2)[y[test]]

    auto = AutoTransferClassifier(
        time_budget=120, image_size=32, max_epochs=1, strategies=["fine-tune last"]
    ).fit(*labelled)
    assert auto.cv_results_["n_folds"].tolist() == [3, 1]
    assert auto.cv_results_["reason"][1] == "no time for 2 of 3 folds"
    assert (auto.best_strategy_, auto.best_score_) == ("fine-tune last", 1.0)


def test_rungs_are_compared_on_the_folds_they_share():
    def trial(name, *scores):
        return Trial(name, None, np.array(scores), 0.0)

    probe = trial("probe", 0.9, 0.5, 0.7)
    assert best_of([probe, trial("none")]).name == "probe"
    assert best_of([probe, trial("tuned", 0.8)]).name == "probe"  # 0.8 is more than the mean
    assert best_of([probe, trial("tuned", 0.95)]).name == "tuned"
    assert best_of([probe, trial("layer", 0.7, 0.7, 0.7)]).name == "probe"  # as good, but later
    assert best_of([probe, trial("tuned", 0.95), trial("all", 0.9, 0.9, 0.9)]).name == "tuned"


def told(name, right, *, tunes=True, n=100):
    """A trial on two folds that is right of so many items, the first ones."""
    answers = np.eye(2)[(np.arange(n) >= right).astype(int)]
    estimator = FineTuneClassifier() if tunes else make_pipeline(CNNCodes())
    scores = np.array([answers[:50, 0].mean(), answers[50:, 0].mean()])
    return Trial(name, estimator, scores, 0.0, answers=answers)


def test_what_is_within_a_standard_error_votes():
    """Of 100 items of which the best tells 80 that is 4; of networks that are trained, 8."""
    folds = [(np.arange(50, 100), np.arange(50)), (np.arange(50), np.arange(50, 100))]
    judge = Judge(LABELS, np.zeros(100, dtype=int), folds)
    probe, other = told("probe", 75, tunes=False), told("layer", 78, tunes=False)
    last, whole, poor = told("last", 77), told("all", 80), told("poor", 71)
    tried = [probe, other, last, whole, poor]
    assert [one.name for one in judge.voters(tried)] == ["all", "layer", "last"]
    assert [one.name for one in judge.voters([probe, last])] == ["last", "probe"]
    with mock.patch.object(_trials, "TELLING", 100):  # of so many a probe votes no more
        assert [one.name for one in judge.voters(tried)] == ["all", "last"]
        assert [one.name for one in judge.voters([other, last])] == ["layer", "last"]
    half = replace(whole, scores=whole.scores[:1])  # of one fold all were right, as of others
    assert [one.name for one in judge.voters([probe, half])] == ["probe", "all"]
    vote = told("vote of all, layer", 77, tunes=False)
    assert judge.choose([*tried, vote]) is vote
    assert judge.choose([*tried, told("vote of all, layer", 75, tunes=False)]) is whole
    assert judge.choose(tried) is whole


def test_what_is_trusted_cannot_be_told_from_the_best_network():
    """Also where there is no time for a vote: then what was judged is taken, if it was trained."""
    folds = [(np.arange(50, 100), np.arange(50)), (np.arange(50), np.arange(50, 100))]
    judge = Judge(LABELS, np.zeros(100, dtype=int), folds)
    probe, last = told("probe", 75, tunes=False), told("last", 78)
    other = Trial("other", FineTuneClassifier(), np.empty(0), 0.0, trusted=True)
    with mock.patch.object(_trials, "TELLING", 100):
        assert [one.name for one in judge.voters([probe, last, other])] == ["last", "other"]
        assert judge.choose([probe, last, other]) is last
        assert [one.name for one in judge.voters([probe, other])] == ["other"]
        assert judge.choose([probe, other]) is other
    assert [one.name for one in judge.voters([probe, other])] == ["probe", "other"]
    vote = Trial("vote of probe and other", None, np.empty(0), 0.0, trusted=True)
    assert judge.choose([probe, other, vote]) is vote


def test_the_vote_is_that_of_scikit_learn(labelled):
    X, y = labelled[0][:60], np.array(["fox", "car"])[labelled[1][:60]]
    auto = AutoTransferClassifier(
        time_budget=None, image_size=32, max_epochs=1, cv=2, random_state=0,
        strategies=["probe", "fine-tune last", "vote"],
    )  # fmt: skip
    with mock.patch.object(Judge, "is_close", lambda *_: True):
        auto.fit(X, y)
    name = auto.best_strategy_
    assert name.startswith("vote of ") and isinstance(auto.best_estimator_, VotingClassifier)
    folds = LABELS.make_splits(y, 2)
    scores = cross_val_score(clone(auto.best_estimator_), X, y, cv=folds)
    assert scores.mean() == pytest.approx(auto.best_score_, abs=0.02)
    likely = auto.predict_proba(X)
    np.testing.assert_allclose(
        auto.decision_function(X), np.log(likely[:, 1] / likely[:, 0]), atol=1e-6
    )
    assert auto.leaderboard()["strategy"][0] == name
    again = pickle.loads(pickle.dumps(auto))
    np.testing.assert_array_equal(again.predict_proba(X), likely)
    assert set(again.predict(X)) <= {"fox", "car"}


def test_the_last_fits_of_all_that_vote_must_fit_in_the_time(labelled, monkeypatch):
    """Each fold seems to take 300 s, a last fit 600: both of them and a fold each take 1,800 s."""
    monkeypatch.setattr(_trials, "seconds_of_fit", lambda *_: 300.0)
    monkeypatch.setattr(_trials, "held_out", lambda e, X, y, learn, test, kind: fold(y[test]))
    moved = [0.0]
    clock = time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + moved[0])

    def fold(labels):
        moved[0] += 300.0
        return np.eye(2)[labels]

    for strategies, folds in ((["fine-tune last", "fine-tune all"], [2, 2]),
                              (["fine-tune last", "fine-tune all", "vote"], [1, 1, 1])):
        auto = AutoTransferClassifier(time_budget=1900, image_size=32, max_epochs=1, cv=2,
                                      strategies=strategies).fit(*labelled)  # fmt: skip
        results = auto.cv_results_
        tuned = ["fine-tune" in name for name in results["strategy"]]
        assert results["n_folds"][tuned].tolist() == folds


def test_what_is_known_to_help_may_be_taken_without_a_fold(labelled, monkeypatch):
    """A last fit seems to take 600 s: in 1,500 s there are two, and no fold of 400 s."""
    X, y = np.concatenate([labelled[0], labelled[0] // 2])[:110], np.tile(labelled[1], 2)[:110]
    monkeypatch.setattr(_trials, "seconds_of_fit", lambda *_: 400.0)
    params = {"time_budget": 1500, "image_size": 32, "max_epochs": 1, "random_state": 0}
    strategies = ["layers", "fine-tune last", "vote"]
    auto = AutoTransferClassifier(strategies=strategies, **params).fit(X, y)
    results = auto.cv_results_
    tuned = np.array([name.startswith("fine-tune") for name in results["strategy"]])
    assert results["n_folds"][tuned].tolist() == [0, 0]
    assert set(results["reason"][tuned]) == {
        "no time for a fold; better than a probe on other sets of so many"
    }
    # Of so few the probe votes too, and less than a tenth of its errors are expected to go.
    assert auto.best_strategy_.startswith("vote of ")
    members = [estimator for _, estimator in auto.best_estimator_.estimators]
    assert [hasattr(one, "trainable") for one in members] == [False, True, True]
    assert members[1].layer != members[2].layer
    probe = np.nanmax(results["mean_test_score"])
    assert auto.best_score_ == pytest.approx(1 - 0.9 * (1 - probe))
    assert auto.leaderboard()["strategy"][0] == auto.best_strategy_
    # Of 90 images nothing is known: what is not judged is not taken.
    few = AutoTransferClassifier(strategies=strategies, **params).fit(*labelled).cv_results_
    tuned = np.array([name.startswith("fine-tune") for name in few["strategy"]])
    assert few["n_folds"][tuned][0] > 0 and few["n_folds"][tuned][1] == 0
    assert few["reason"][tuned][1].startswith("no time: ")


def test_what_is_done_once_is_not_counted_for_every_epoch():
    """The estimate for 10 epochs of 640 images, from a clock that stands for a fit."""

    class Slow(ClassifierMixin, BaseEstimator):
        def __init__(self, max_epochs=10):
            self.max_epochs = max_epochs

        def fit(self, X, y):
            seconds = [0.3, *[0.01] * (self.max_epochs - 1)]  # the first epoch warms up
            time.sleep(0.5 + sum(seconds))
            self.history_ = History()
            for one in seconds:
                self.history_.new_epoch()
                self.history_.record("dur", one)
            return self

    X, y = np.zeros((640, 2)), np.arange(640) % 3
    estimate = _trials.seconds_of_fit(Slow(), X, y, np.arange(640))
    assert estimate == pytest.approx(0.5 + 10 * 10 * 0.01, abs=0.4)


@pytest.mark.slow
def test_probes_do_not_cost_a_pass(labelled, monkeypatch):
    """After a slow first pass there is time for probes on the codes that are there."""

    def slow(codes, X, **options):
        time.sleep(2.0)
        return pass_over(codes, X, **options)

    pass_over(CNNCodes(image_size=32), labelled[0])
    monkeypatch.setattr(_trials, "pass_over", slow)
    auto = AutoTransferClassifier(time_budget=5, image_size=32, cv=2, strategies=["layers"])
    assert np.isfinite(auto.fit(*labelled).cv_results_["mean_test_score"]).all()


def test_two_layers_are_stacked_also_where_others_were_not_tried(labelled):
    assert _strategies_of(["stacked"], *labelled) == ["probe", "stacked blocks.5 + global_pool"]


def test_an_image_that_cannot_be_read_is_named(labelled, tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(12)]
    for path, pixels in zip(paths, labelled[0], strict=False):
        Image.fromarray(pixels).save(path)
    paths[7].write_bytes(paths[7].read_bytes()[:60])
    with pytest.raises(ImageError, match=r"image 7 .*7\.png.*Fix or remove the file") as caught:
        AutoTransferClassifier(image_size=32, strategies=[]).fit(paths, np.arange(12) % 2)
    assert "on_error" not in str(caught.value)


def test_labels_of_any_kind_and_pickles(labelled):
    X, y = labelled
    names = np.array(["vehicle", "animal"])[y]
    auto = AutoTransferClassifier(strategies=["probe"], image_size=32).fit(X, names)
    assert auto.classes_.tolist() == ["animal", "vehicle"]
    again = pickle.loads(pickle.dumps(auto))
    assert again.predict(X).tolist() == auto.predict(X).tolist()
    np.testing.assert_allclose(again.predict_proba(X).sum(1), 1)
    assert auto.plot_trials() is not None


@pytest.mark.parametrize(
    ("params", "y", "message"),
    [
        ({"strategies": ["leap"]}, np.arange(90) % 2, "strategies must be of probe"),
        ({"strategies": ["finetune all"]}, np.arange(90) % 2, "mean 'fine-tune all'"),
        ({}, np.zeros(90, dtype=int), "at least 2 classes"),
        ({}, np.r_[np.zeros(89, dtype=int), 1], "at least 2 different images"),
        ({}, np.arange(80) % 2, "90"),
    ],
)
def test_bad_input(labelled, params, y, message):
    with pytest.raises(ValueError, match=message):
        AutoTransferClassifier(image_size=32, **params).fit(labelled[0], y)


def test_dark_images_are_told_of_once_a_call(labelled):
    X, y = labelled
    masks = (X[:24] > 128).astype(np.uint8)
    auto = AutoTransferClassifier(strategies=["probe", "fine-tune last"], image_size=32, cv=2,
                                  max_epochs=1, time_budget=None)  # fmt: skip
    for call in (lambda: auto.fit(masks, y[:24]), lambda: auto.predict(masks)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        told = [one for one in caught if issubclass(one.category, ValueRangeWarning)]
        assert len(told) == 1 and told[0].filename == __file__


def grouped(sample, n=60):
    """Images of six slides of ten; the first of one slide is also in the next."""
    X, y = sample.data[:n].copy(), sample.target[:n] % 2
    X[10], y[10] = X[0], y[0]
    return X, y, np.repeat([f"slide {i}" for i in range(n // 10)], 10)


@pytest.fixture
def folds(monkeypatch):
    """What splits trials were judged on."""
    seen, real = [], _trials.TrialRunner

    def watch(codes, splits, *args, **kwargs):
        seen.append(splits)
        return real(codes, splits, *args, **kwargs)

    monkeypatch.setattr("sktransfer.selection._auto.TrialRunner", watch)
    return seen


@pytest.mark.parametrize("cv", [3, GroupKFold(3)])
def test_groups_are_in_one_fold(cv, sample, folds):
    X, y, groups = grouped(sample)
    auto = AutoTransferClassifier(strategies=["probe"], image_size=32, cv=cv)
    auto.fit(X, y, groups=groups)
    assert len(folds[0]) == 3
    tested = np.concatenate([test for _, test in folds[0]])
    assert sorted(tested) == list(range(60))
    for learn, test in folds[0]:
        assert not set(groups[learn]) & set(groups[test])
        # A copy joins its two slides.
        assert ({"slide 0", "slide 1"} <= set(groups[test])) == (0 in test)


def test_folds_are_taken_as_they_are(sample, folds):
    X, y, groups = grouped(sample)
    given = list(GroupKFold(2).split(X, y, groups))
    auto = AutoTransferClassifier(strategies=["probe"], image_size=32, cv=given).fit(X, y)
    for one, other in zip(folds[0], given, strict=True):
        np.testing.assert_array_equal(one[1], other[1])
    probe = make_pipeline(CNNCodes(image_size=32), *auto.best_estimator_[1:])
    expected = np.mean([clone(probe).fit(X[learn], y[learn]).score(X[test], y[test])
                        for learn, test in given])  # fmt: skip
    assert auto.best_score_ == pytest.approx(expected, abs=0.02)


def test_bad_groups_and_folds_are_errors(sample):
    X, y, groups = grouped(sample)
    auto = AutoTransferClassifier(strategies=["probe"], image_size=32)
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples"):
        auto.fit(X, y, groups=groups[:-1])
    with pytest.raises(ValueError, match="at least 2 different"):
        auto.fit(X, np.repeat([0, 1], 30), groups=np.repeat([0, 1], 30))
    with pytest.raises(ValueError, match="cv"):
        auto.set_params(cv=1).fit(X, y)


def test_advise_keeps_groups_in_one_fold(sample, monkeypatch):
    from sktransfer import advise
    from sktransfer.selection import _advise

    X, y, groups = grouped(sample)
    seen, real = [], _advise._ask
    monkeypatch.setattr(_advise, "_ask", lambda *args: seen.append(real(*args)) or seen[-1])
    advise(X, y, image_size=32, groups=groups, fine_tune=False)
    assert len(seen[0].splits) == 5
    for learn, test in seen[0].splits:
        assert not set(groups[learn]) & set(groups[test])
