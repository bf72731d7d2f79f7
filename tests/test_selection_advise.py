"""Advice: its figures by scikit-learn alone, its warnings on faults that were put in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import CNNCodes, FineTuneClassifier, advise, rank_backbones
from sktransfer.compute import count_computed
from sktransfer.selection import _features
from sktransfer.selection._kinds import LABELS, suspect_labels
from sktransfer.selection._modality import IMAGES
from sktransfer.selection._probe import (
    LayerScore,
    best_layer,
    folds_of_best,
    is_better,
    layer_to_tune,
    learning_curve_of,
)
from sktransfer.selection._strategies import tune_up_to

LITE = "efficientnet_lite0"


def test_advice_after_a_ranking_costs_no_pass(labelled, passes):
    X, y = labelled
    networks = {"a": LITE, "b": CNNCodes(LITE, weights=None, image_size=32)}
    ranking = rank_backbones(X, y, networks, image_size=32)
    before = passes["images"]
    assert before == 2 * len(X)
    advice = advise(X, y, ranking, cv=2)
    advise(X, y, LITE, image_size=32, cv=2)
    advice.estimator.fit(X, y)
    assert passes["images"] == before
    assert advice.ranking is ranking and advice.backbone == LITE
    assert advise(X, y, networks, image_size=32, cv=2).backbone == LITE
    assert passes["images"] == before


def test_figures_are_those_of_scikit_learn(labelled):
    X, y = labelled
    advice = advise(X, y, image_size=32)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    for name, mean, std in (advice.layer_scores[0], advice.layer_scores[-1]):
        pipe = make_pipeline(CNNCodes(image_size=32, layer=name), StandardScaler(),
                             LogisticRegression(C=1e-2, max_iter=1000))  # fmt: skip
        scores = cross_val_score(pipe, X, y, cv=folds)
        assert (mean, std) == pytest.approx((scores.mean(), scores.std()))
    by_name = {name: mean for name, mean, _ in advice.layer_scores}
    scores = cross_val_score(advice.estimator, X, y, cv=folds)
    assert scores.mean() == pytest.approx(by_name[advice.layer])
    assert advice.learning_curve.means[-1] == pytest.approx(by_name[advice.layer])
    assert advice.expected_accuracy <= by_name[advice.layer]


def test_minutes_are_known_where_all_codes_come_from_the_disk(labelled, tmp_path, monkeypatch):
    """As in a new process: a few images are computed again, and not kept."""
    X, y = labelled
    advise(X, y, image_size=32, cv=2, cache=tmp_path)
    monkeypatch.setattr(_features, "_SPEEDS", {})
    with count_computed() as computed:
        assert advise(X, y, image_size=32, cv=2, cache=tmp_path).minutes > 0
    assert computed.n_items == 2 * _features._TIMED
    with count_computed() as computed:
        advise(X, y, image_size=32, cv=2, cache=tmp_path)
    assert computed.n_items == 0


def test_the_estimator_is_ready_and_the_grid_is_of_it(labelled):
    X, y = labelled
    advice = advise(X, y, image_size=32, cv=2)
    assert advice.strategy == "probe" and advice.scenario.startswith("few")
    assert isinstance(advice.estimator, Pipeline)
    assert not hasattr(advice.estimator[-1], "classes_")
    search = GridSearchCV(clone(advice.estimator), advice.param_grid, cv=2).fit(X[:40], y[:40])
    assert search.best_score_ > 0.5
    tune = advise(X, y, image_size=32, fine_tune=True, vote=False, cv=2)
    assert isinstance(tune.estimator, FineTuneClassifier)
    assert tune.estimator.image_size == 32
    assert set(tune.param_grid) <= set(tune.estimator.get_params())
    assert tune.minutes > advice.minutes > 0
    with pytest.raises(ValueError, match="resize must be auto or one of"):
        advise(X, y, image_size=32, resize="padd", cv=2)
    with pytest.raises(ValueError, match="fine_tune must be"):
        advise(X, y, image_size=32, fine_tune="yes", cv=2)


def test_it_says_why_in_words_and_pictures(labelled):
    X, y = labelled
    advice = advise(X, y, image_size=32, cv=2)
    for text in (repr(advice), advice._repr_html_()):
        assert advice.scenario in text and "images of 2 classes" in text
        assert f"{advice.expected_accuracy:.1%}" in text
    figure = advice.plot()
    ticks = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert ticks == [name for name, *_ in advice.layer_scores]


def test_more_images_mean_more_fine_tuning(labelled, monkeypatch):
    from sktransfer.selection import _advise as _scenes

    X, y = labelled
    few = advise(X, y, image_size=32, cv=2)
    assert (few.scenario.split()[0], few.strategy) == ("few", "probe")
    assert few.expected_accuracy < 0.99
    forced = advise(X, y, image_size=32, fine_tune=True, vote=False, cv=2)
    assert forced.strategy == "fine-tune last"
    monkeypatch.setattr(IMAGES, "some", (80, 20))
    some = advise(X, y, image_size=32, vote=False, cv=2)
    assert (some.scenario.split()[0], some.strategy) == ("few", "fine-tune last")
    assert isinstance(some.estimator, FineTuneClassifier) and some.estimator.trainable == 2
    monkeypatch.setattr(_scenes, "MANY", (80, 20))
    many = advise(X, y, image_size=32, vote=False, cv=2)
    assert (many.scenario.split()[0], many.strategy) == ("many", "fine-tune all")
    assert many.estimator.trainable == "all"
    assert advise(X, y, image_size=32, fine_tune=False, cv=2).strategy == "probe"


def test_strategies_that_cannot_be_told_apart_vote(labelled, monkeypatch):
    from sktransfer.selection import _advise, _strategies

    X, y = labelled
    alone = advise(X, y, image_size=32, fine_tune=True, vote=False, cv=2)
    advice = advise(X, y, image_size=32, fine_tune=True, cv=2)
    assert advice.strategy == "vote" and isinstance(advice.estimator, VotingClassifier)
    members = dict(advice.estimator.estimators)
    assert list(members) == ["probe", "fine_tune_last", "fine_tune_earlier"]
    assert members["probe"].get_params()["codes__layer"] in (None, advice.layer)
    assert (members["fine_tune_last"].layer, members["fine_tune_last"].trainable) == (None, 2)
    scores = {name: mean for name, mean, _ in advice.layer_scores}
    assert members["fine_tune_earlier"].layer == max(list(scores)[:-1], key=scores.get)
    assert "3 vote, by the mean of their probabilities" in repr(advice)
    assert advice.minutes > alone.minutes > 0
    assert set(advice.param_grid) <= set(advice.estimator.get_params())
    short = {f"{name}__max_epochs": 1 for name in members if name != "probe"}
    model = clone(advice.estimator).set_params(**short).fit(X, np.array(["b", "a"])[y])
    said = np.mean([one.predict_proba(X) for one in model.estimators_], axis=0)
    np.testing.assert_allclose(model.predict_proba(X), said, atol=1e-7)
    assert model.classes_.tolist() == ["a", "b"]
    # Of more the probe is known to be worse, and of still more all layers have a voice.
    for module in (_advise, _strategies):
        monkeypatch.setattr(module, "TELLING", 80)
    monkeypatch.setattr(IMAGES, "errors_left", (0.8, 0.4))
    more = advise(X, y, image_size=32, fine_tune=True, cv=2)
    assert [name for name, _ in more.estimator.estimators] == list(members)[1:]
    assert 1 - more.expected_accuracy == pytest.approx(0.4 / 0.9 * (1 - advice.expected_accuracy))
    monkeypatch.setattr(_advise, "ENOUGH_FOR_ALL", 80)
    many = dict(advise(X, y, image_size=32, fine_tune=True, cv=2).estimator.estimators)
    assert list(many)[2:] == ["fine_tune_all"] and many["fine_tune_all"].trainable == "all"


def score(name, correct):
    correct = np.array(correct, dtype=bool)
    return LayerScore(name, correct.mean(), 0.0, correct, np.zeros((len(correct), 2)))


def test_of_many_images_some_of_each_class_are_asked():
    from sktransfer.selection._advise import _ENOUGH

    numbers = np.repeat([0, 1, 2], [7000, 3000, 6])
    chosen = LABELS.some(np.random.default_rng(0).permutation(numbers), _ENOUGH, 5)
    assert len(np.unique(chosen)) == _ENOUGH
    counts = np.bincount(np.random.default_rng(0).permutation(numbers)[chosen])
    assert counts[2] >= 5
    assert counts[0] / counts[1] == pytest.approx(7 / 3, rel=0.02)


def test_an_earlier_layer_must_be_likely_to_be_better():
    last = score("last", [1] * 50 + [0] * 50)
    chance = score("early", [0] * 3 + [1] * 47 + [1] * 4 + [0] * 46)
    likely = score("early", [0] * 4 + [1] * 46 + [1] * 9 + [0] * 41)
    sure = score("early", [1] * 70 + [0] * 30)
    assert best_layer([chance, last]) is last  # one of a hundred may be luck
    assert best_layer([likely, last]) is likely  # five, with an error of 3.6
    assert is_better(likely, last, 1.0) and not is_better(likely, last, 2.0)
    assert is_better(sure, last, 2.0)
    swapped = score("early", [0] * 10 + [1] * 40 + [1] * 12 + [0] * 38)
    assert best_layer([swapped, last]) is last  # as many lost as won
    assert best_layer([sure, last]) is sure


def test_what_is_expected_does_not_know_the_fold_it_is_judged_on():
    """Two layers that are right where the other is wrong: the worst case."""
    folds = np.repeat(np.arange(4), 3)
    splits = [(np.flatnonzero(folds != k), np.flatnonzero(folds == k)) for k in range(4)]

    def judged(name, *right):
        marks = np.concatenate([np.arange(3) < n for n in right])
        shares = np.array(right) / 3
        return LayerScore(name, shares.mean(), 0.0, marks, np.zeros((12, 2)), shares)

    early, last = judged("early", 3, 3, 0, 0), judged("last", 0, 0, 2, 3)
    # Without one of the first folds the last layer is better, which is wrong there; without one of
    # the others the early one is, by more than a standard error, which is wrong there.
    assert folds_of_best([early, last], splits).tolist() == [0, 0, 0, 0]
    assert max(early.mean, last.mean) == 0.5
    np.testing.assert_allclose(folds_of_best([last], splits), [0, 0, 2 / 3, 1])


def test_what_is_fine_tuned_ends_earlier_where_images_suffice():
    def tells(name, right, n):
        return score(name, [1] * right + [0] * (n - right))

    few = [tells("a", 20, 199), tells("b", 80, 199), tells("last", 70, 199)]
    assert layer_to_tune(few).name == "last"
    enough = [tells("a", 20, 200), tells("b", 80, 200), tells("last", 90, 200)]
    assert layer_to_tune(enough).name == "b"
    assert layer_to_tune(enough[-1:]).name == "last"


def test_the_fine_tuned_network_is_cut(sample):
    X, y = sample.data[:220], sample.target[:220]
    advice = advise(X, y, image_size=32, vote=False, cv=2)
    scores = {name: mean for name, mean, _ in advice.layer_scores}
    earlier = max(list(scores)[:-1], key=scores.get)
    assert (advice.strategy, advice.estimator.layer) == ("fine-tune last", earlier)
    assert f"ends with {earlier}" in repr(advice) and f"up to {earlier}" in repr(advice)
    assert advice.param_grid["layer"] == [earlier, None]
    assert set(advice.param_grid) <= set(advice.estimator.get_params())
    first = next(iter(scores))
    assert tune_up_to(CNNCodes(image_size=32), "conv_stem").trainable == 1
    assert tune_up_to(CNNCodes(image_size=32), first, "all").trainable == "all"


def test_digits_are_unlike_images():
    from sklearn.datasets import load_digits

    digits = load_digits()
    advice = advise(
        digits.data[:200],
        digits.target[:200],
        value_range=(0, 16),
        image_size=64,
        cv=2,
        fine_tune=False,
    )
    assert advice.scenario == "few and dissimilar"
    assert advice.layer != "global_pool"
    assert advice.estimator.get_params()["codes__layer"] == advice.layer


def test_resize_is_judged_where_images_are_not_square(sample, passes):
    """What matters stands at the ends of wide images, where a crop does not look."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    X = rng.integers(100, 156, size=(60, 32, 96, 3), dtype=np.uint8)
    X[y == 1, :, :16] = 255
    X[y == 0, :, -16:] = 255
    chosen = advise(X, y, image_size=32, resize="auto", cv=2)
    assert set(chosen.resize_scores) == {"pad", "squash", "crop"}
    assert chosen.resize_scores["crop"] < min(
        chosen.resize_scores["pad"], chosen.resize_scores["squash"]
    )
    assert passes["images"] == 3 * 60
    from_crop = advise(X, y, CNNCodes(image_size=32, resize="crop"), cv=2)
    assert from_crop.resize in ("pad", "squash")
    assert from_crop.estimator.get_params()["codes__resize"] == from_crop.resize
    assert advise(X, y, image_size=32, resize="squash", cv=2).resize_scores == {}
    assert passes["images"] == 3 * 60
    assert advise(sample.data[:40], np.arange(40) % 2, image_size=32, cv=2).resize_scores == {}


def test_copies_and_conflicts_are_found_and_do_not_leak(labelled, tmp_path):
    X, y = labelled
    X = np.concatenate([X, X[:3], X[5:6]])
    y = np.concatenate([y, y[:3], 1 - y[5:6]])
    advice = advise(X, y, image_size=32)
    assert advice.copies == ((0, 90), (1, 91), (2, 92))
    assert advice.conflicts == ((5, 93),)
    told = " ".join(advice.warnings)
    assert "3 image(s) are duplicates" in told and "[5, 93]" in told
    # Noise whose labels can be learnt only by having seen the same picture.
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, size=(30, 16, 16, 3), dtype=np.uint8)
    labels = rng.permutation(np.arange(30) % 2)
    twice = advise(np.tile(noise, (4, 1, 1, 1)), np.tile(labels, 4), image_size=32)
    assert twice.expected_accuracy < 0.8


@pytest.mark.slow
def test_labels_that_were_changed_are_suspected(sample):
    X, clean = sample.data[:200], sample.target[:200]
    keep = np.isin(clean, [0, 1, 6, 8])  # airplane, automobile, frog, ship
    X, y = X[keep], clean[keep].copy()
    rng = np.random.default_rng(0)
    wrong = rng.choice(len(y), 5, replace=False)
    y[wrong] = [{0: 1, 1: 6, 6: 8, 8: 6}[label] for label in y[wrong]]
    advice = advise(X, y, image_size=96)
    assert len(set(wrong) & set(advice.suspects)) >= 3
    assert len(advice.suspects) <= 8
    assert any("look wrong" in warning for warning in advice.warnings)
    truth = clean[keep]
    found = [i for i, index in enumerate(advice.suspects) if index in wrong]
    assert np.mean(advice.suspected_of[found] == truth[advice.suspects[found]]) > 0.6
    titles = [ax.get_title() for ax in advice.plot_suspects(X, y).axes]
    assert (
        titles[0] == f"{advice.suspects[0]}: {y[advice.suspects[0]]}\nor {advice.suspected_of[0]}?"
    )


def test_suspects_by_hand():
    said = np.array([[0.9, 0.1], [0.95, 0.05], [0.03, 0.97], [0.2, 0.8], [0.1, 0.9]])
    assert suspect_labels(said, np.array([0, 0, 0, 1, 1])).tolist() == [2]
    assert suspect_labels(said, np.array([0, 0, 1, 1, 1])).tolist() == []


def test_small_classes_are_left_out_and_named(labelled):
    X, y = labelled
    names = np.where(y == 1, "animal", "vehicle").astype(object)
    names[4] = "alone"
    names[7:10] = "scarce"
    advice = advise(X, names, image_size=32, cv=2)
    told = " ".join(advice.warnings)
    assert "class(es) alone have fewer than 2" in told
    assert "class(es) scarce have fewer than 5" in told
    assert advice.learning_curve.sizes[-1] < 89


def test_the_curve_leads_where_a_power_law_does():
    sizes = np.array([20, 35, 60, 100])
    from sktransfer.selection._probe import LearningCurve, _law

    law = _law(sizes, 1 - (0.1 + 2.0 * sizes**-0.6))
    assert law == pytest.approx((0.1, 2.0, 0.6), abs=0.02)
    curve = LearningCurve(sizes, 1 - sizes**-0.5, np.zeros(4), law)
    assert curve.expected(400) == pytest.approx(1 - (0.1 + 2.0 * 400**-0.6), abs=0.01)
    assert _law(sizes, np.full(4, 0.5)) is None


def test_the_curve_learns_from_nested_parts():
    rng = np.random.default_rng(0)
    y = np.arange(100) % 2
    codes = rng.normal(size=(100, 5)) + y[:, None]
    folds = list(StratifiedKFold(5).split(codes, y))
    curve = learning_curve_of(codes, y, folds)
    assert curve.sizes.tolist() == [16, 28, 48, 80]
    assert (curve.means > 0.5).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.zeros(90, dtype=int)}, "at least 2 classes"),
        ({"y": np.arange(90)}, "at least 2 images"),
        ({"y": np.arange(89) % 2}, "one label for each of 90"),
        ({"y": np.r_[np.zeros(89, dtype=int), 1]}, "at least 2 classes must have 2"),
        ({"cv": 1}, "cv must be at least 2"),
    ],
)
def test_bad_input_is_an_error(labelled, change, message):
    given = {"X": labelled[0], "y": labelled[1], "image_size": 32, **change}
    with pytest.raises(ValueError, match=message):
        advise(**given)


def test_files_that_cannot_be_read_are_left_out(labelled, tmp_path):
    X, y = labelled
    paths = []
    for number, image in enumerate(X[:40]):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        paths.append(tmp_path / f"{number}.png")
    paths[3].write_bytes(b"")
    paths[4].unlink()
    with pytest.warns(UserWarning, match="2 of 40 images"):
        advice = advise(paths, y[:40], image_size=32, on_error="nan", cv=2)
    rest = np.delete(np.arange(40), [3, 4])
    plain = advise(X[rest], y[rest], image_size=32, cv=2)
    assert advice.expected_accuracy == pytest.approx(plain.expected_accuracy)
    assert advice.unreadable.tolist() == [3, 4]
    assert "2 image(s) cannot be read: [3, 4]" in repr(advice)
    assert repr(plain).split("Reasons:")[1].split(":")[0] in repr(advice)  # how many of each


@pytest.mark.slow
def test_the_layer_is_that_of_the_estimator(sample):
    """Also where the probe prefers another one than what is fine-tuned."""
    for n, fine_tune in ((120, "auto"), (120, False), (90, True), (220, True)):
        asked = {"image_size": 32, "fine_tune": fine_tune, "vote": False}
        advice = advise(sample.data[:n], sample.target[:n], **asked)
        params = advice.estimator.get_params()
        end = params.get("codes__layer", params.get("layer"))
        assert advice.layer == (advice.layer_scores[-1][0] if end is None else end)
        scores = {name: (mean, std) for name, mean, std in advice.layer_scores}
        assert (advice.accuracy_std == 0) <= (advice.expected_accuracy in (0, 1))
        assert advice.learning_curve.means[-1] == pytest.approx(scores[advice.layer][0])
        assert ("since fine_tune=False" in repr(advice)) == (fine_tune is False)
        assert ("because fine_tune=True" in repr(advice)) == (n == 90)
        assert "resized" not in repr(advice)  # they are square


def test_folds_may_be_a_splitter(labelled):
    splitter = StratifiedKFold(2, shuffle=True, random_state=0)
    by_splitter = advise(*labelled, image_size=32, cv=splitter)
    assert by_splitter.layer_scores == advise(*labelled, image_size=32, cv=2).layer_scores


def test_where_no_label_looks_wrong_there_is_nothing_to_show(labelled):
    X, y = labelled
    advice = replace(advise(X, y, image_size=32, cv=2), suspects=np.array([], dtype=int))
    with pytest.raises(ValueError, match="no label looks wrong"):
        advice.plot_suspects(X, y)
