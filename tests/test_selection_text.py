"""Selection on texts: figures by scikit-learn alone, a bag of words beside networks, one pass."""

from __future__ import annotations

import json
import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data

pytest.importorskip("transformers")

from networks_for_text import small_model

from sktransfer import (
    AutoTransferTextClassifier,
    CNNCodes,
    FineTuneTextClassifier,
    FineTuneTextRegressor,
    TextCodes,
    advise,
    rank_backbones,
)
from sktransfer.exceptions import ImageError, TextError
from sktransfer.selection._kinds import LABELS, kind_of
from sktransfer.selection._modality import IMAGES, TEXTS, modality_of, plain_texts

CHEAP = ["bag of words", "probe", "long_texts", "layers", "stacked"]
LAYERS = ["embeddings", "block.1", "block.2", "block.3"]


@pytest.fixture(scope="module")
def small(text_network):
    return text_network


def texts_of(y, *, told=(40, 60), n_words=12, seed=0):
    """Texts of common words with one of two that tells the class, anywhere."""
    rng = np.random.default_rng(seed)
    found = []
    for label in y:
        text = [f"w{i}" for i in rng.integers(0, 40, n_words)]
        text[rng.integers(n_words)] = f"w{told[label]}"
        found.append(" ".join(text))
    return found


@pytest.fixture(scope="module")
def told():
    """A rare word tells the class: easy with a bag of words, hard with 16 random numbers."""
    y = np.arange(80) % 2
    return texts_of(y), np.array(["bad", "good"], dtype=object)[y]


@pytest.fixture(scope="module")
def toned():
    """Each text has words of its class alone, of which there are many."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    return [" ".join(f"w{i}" for i in rng.integers(0, 40, 8) + 45 * one) for one in y], y


ANIMALS = """cat dog horse cow pig sheep goat lion tiger wolf fox rabbit mouse elephant monkey zebra
    giraffe donkey camel deer squirrel hamster panda otter""".split()
VEHICLES = """car bus truck train tram lorry van bicycle motorcycle scooter taxi jeep tractor
    ambulance limousine minibus helicopter airplane ferry yacht ship canoe submarine
    locomotive""".split()


@pytest.fixture(scope="module")
def meant():
    """Each text has one word that tells its class, which no other text has."""
    return np.array([f"I saw a {word}" for word in [*ANIMALS, *VEHICLES]]), np.repeat([0, 1], 24)


def tf_idf(model):
    return make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), model)


def test_figures_are_those_of_scikit_learn(small, told):
    X, y = told
    advice = advise(X, y, small)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    assert [name for name, *_ in advice.layer_scores] == LAYERS
    for name, mean, std in advice.layer_scores:
        probe = LogisticRegression(C=1e-2, max_iter=1000)
        pipe = make_pipeline(TextCodes(small, layer=name), StandardScaler(), probe)
        scores = cross_val_score(pipe, X, y, cv=folds)
        assert (mean, std) == pytest.approx((scores.mean(), scores.std()))
    model = LogisticRegression(C=10, solver="liblinear", dual=True, random_state=0)
    scores = cross_val_score(tf_idf(OneVsRestClassifier(model)), X, y, cv=folds)
    assert advice.baseline_score == pytest.approx((scores.mean(), scores.std()))


def test_a_bag_of_words_is_advised_where_it_wins(small, told):
    X, y = told
    advice = advise(X, y, small)
    assert (advice.strategy, advice.layer, advice.noun) == ("bag of words", "", "text")
    assert advice.expected_accuracy == advice.baseline_score[0] > 0.8
    assert advice.learning_curve.means[-1] == pytest.approx(advice.expected_accuracy)
    assert "better by more than a standard error, so take it" in repr(advice)
    assert "none is needed" in repr(advice) and "images" not in repr(advice)
    assert 0 < advice.minutes < 1
    model = clone(advice.estimator).fit(X, y)
    assert model.score(X, y) > 0.9
    assert model.predict_proba(X).shape == (80, 2)
    assert set(advice.param_grid) <= set(model.get_params())
    figure = advice.plot()
    assert [line.get_label() for line in figure.axes[0].lines][-1] == "bag of words"


def test_the_network_is_advised_where_it_wins(meant):
    X, y = meant
    advice = advise(X, y, "minilm_l6")
    assert advice.strategy == "probe"
    assert advice.expected_accuracy > advice.baseline_score[0]
    assert "the network is better by more than a standard error" in repr(advice)
    assert f"layer {advice.layer}" in repr(advice)
    assert set(advice.param_grid) <= set(advice.estimator.get_params())
    assert advice.estimator.fit(X, y).score(X, y) > 0.9


def test_what_is_cheap_is_advised_where_nothing_is_better(small):
    y = np.arange(60) % 2
    X = [f"w{50 * one} w{i % 7} w{50 * one} w{50 * one}" for i, one in enumerate(y)]
    advice = advise(X, y, small)
    assert max(mean for _, mean, _ in advice.layer_scores) == advice.baseline_score[0] == 1
    assert advice.strategy == "bag of words"
    assert "as good, and cheap, so take it" in repr(advice)
    trained = advise(X, y, small, fine_tune=True, vote=False)
    assert trained.strategy == "fine-tune last"
    assert "as good, and cheap, so fine-tuning has to beat it" in repr(trained)


def test_all_questions_take_one_pass(small, toned, passes):
    X, y = toned
    ranking = rank_backbones(X, y, [small], metric=["logme", "leep", "cv"])
    assert passes["images"] == len(X)
    advise(X, y, ranking, cv=2)
    advise(X, y, small, cv=2, fine_tune=False).estimator.fit(X, y)
    AutoTransferTextClassifier(
        small, strategies=["bag of words", "probe", "layers", "stacked"]
    ).fit(X, y).predict(X)
    assert passes["images"] == len(X)


def test_long_texts_are_read_in_several_ways(small, passes):
    """What tells the class stands at the end, which the beginning alone does not show."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    X = [" ".join([f"w{i}" for i in rng.integers(0, 40, 30)] + [f"w{50 + 40 * one}"] * 8)
         for one in y]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        advice = advise(X, y, small, max_tokens=20, cv=2, fine_tune=False)
    assert set(advice.long_texts_scores) == {"windows", "head", "head_tail"}
    assert advice.resize is None and advice.resize_scores == {}
    assert advice.long_texts_scores["head"] < min(
        advice.long_texts_scores[name] for name in ("windows", "head_tail")
    )
    assert "100% of the texts are longer than the network reads" in repr(advice)
    assert passes["images"] >= 3 * len(X)
    given = advise(X, y, small, max_tokens=20, long_texts="windows", cv=2, fine_tune=False)
    assert given.long_texts_scores == {} and given.long_texts == "windows"
    assert advise(X, y, small, cv=2, fine_tune=False).long_texts_scores == {}  # it reads 40


def test_rankings_compare_networks(small, toned):
    X, y = toned
    networks = {"small": small, "first layer": TextCodes(small, layer="embeddings")}
    ranking = rank_backbones(X, y, networks, metric=["logme", "nce"])
    assert {row.name for row in ranking.rows} == set(networks)
    assert all("no classifier of its own" in row.error for row in ranking.rows)
    assert "texts_per_second" in ranking.table.columns
    assert ranking.rows[0].n_parameters > 0 and ranking.rows[0].width == 16
    assert isinstance(ranking.codes("small"), TextCodes)
    generator = rank_backbones(X, y, (one for one in [small]))
    assert generator.rows[0].name == small


def test_networks_say_what_they_are_for(small, tmp_path):
    model = small_model()
    for text in ("minilm_l6", "packaged:minilm_l6", small, TextCodes(), model, tmp_path):
        assert modality_of(text) is TEXTS
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18"}))  # timm's
    for image in ("resnet50", CNNCodes(), str(tmp_path), "hf-hub:timm/resnet18"):
        assert modality_of([image, image]) is IMAGES
    with pytest.raises(ValueError, match="all for images or all for texts"):
        rank_backbones(["a", "b"], [0, 1], ["efficientnet_lite0", small])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"image_size": 32}, "'image_size', which networks for texts do not have"),
        ({"resize": "pad"}, "'resize', which networks for texts do not have"),
        ({"max_token": 3}, "no parameter of it or TextCodes. Did you mean 'max_tokens'"),
    ],
)
def test_parameters_are_those_of_the_transformer(toned, params, message):
    with pytest.raises(TypeError, match=message):
        advise(*toned, "minilm_l6", **params)
    with pytest.raises(TypeError, match="'long_texts', which networks for images do not have"):
        advise(*toned, long_texts="head")
    with pytest.raises(ValueError, match="long_texts must be auto or one of windows"):
        advise(*toned, "minilm_l6", long_texts="tail")


def test_texts_that_are_taken_for_paths_lead_to_networks_for_text(toned):
    X = ["A film to love", *toned[0][1:]]
    with pytest.raises(ImageError, match='backbone="minilm_l6"'):
        advise(X, toned[1], "efficientnet_lite0")
    with pytest.raises(ImageError, match="take an estimator of texts such as TextCodes"):
        CNNCodes(image_size=32).fit_transform(X)


def test_what_is_odd_is_told_of_texts(small, toned):
    X, y = toned
    X, y = [*X, X[0], X[1]], np.array([*y, y[0], 1 - y[1]])
    with pytest.warns(UserWarning, match="1 of 63 texts could not be read"):
        advice = advise([*X, " "], [*y, 0], small, cv=2, on_error="nan", fine_tune=False)
    assert advice.copies == ((0, 60),) and advice.conflicts == ((1, 61),)
    assert advice.unreadable.tolist() == [62]
    assert "1 text(s) cannot be read: [62]" in repr(advice)
    assert "1 text(s) are duplicates" in repr(advice) and "image" not in repr(advice)
    with pytest.raises(TextError, match="text 62"):
        advise([*X, " "], [*y, 0], small, cv=2)
    with pytest.raises(ValueError, match=r"one label for each of 60 texts, got 59"):
        advise(X[:60], y[:59], small)


def test_labels_that_look_wrong_are_a_table(small, toned):
    X, y = toned
    found = {"suspects": np.array([5, 2]), "suspected_of": np.array([0, 1])}
    advice = replace(advise(X, y, small, cv=2, fine_tune=False), **found)
    table = advice.suspect_table(X, y)
    assert list(table.index) == [5, 2]
    assert table.loc[5].tolist() == [y[5], 0, X[5]]
    assert len(advice.suspect_table(X, y, n=1)) == 1
    with pytest.raises(ValueError, match="suspect_table"):
        advice.plot_suspects(X, y)


def test_values_and_tags_have_a_bag_of_words_too(small, told):
    X, y = told
    values = (y == "good") + np.random.default_rng(0).normal(0, 0.1, len(y))
    advice = advise(X, values, small, cv=4)
    folds = KFold(4, shuffle=True, random_state=0)
    scores = cross_val_score(tf_idf(Ridge()), X, values, cv=folds)
    assert advice.baseline_score == pytest.approx((scores.mean(), scores.std()))
    assert advice.measure == "R²"
    words = TEXTS.baseline(TextCodes(), kind_of(values, item="text")).fit(X, values)
    assert words.score(X, values) > 0.8
    tags = np.column_stack([y == "good", y == "bad", np.arange(80) % 4 == 0]).astype(float)
    tags[5, 0] = np.nan
    advice = advise(X, tags, small, cv=4)
    assert advice.baseline_score[0] > 0.7
    kind = kind_of(tags, item="text")
    words = TEXTS.baseline(TextCodes(), kind).fit(X, tags)
    assert (words.predict(X)[:, 1] == tags[:, 1]).mean() > 0.9
    assert set(TEXTS.baseline_grid(kind)) <= set(words.get_params())


def test_pairs_are_read_together(small, told):
    X, y = told
    pairs = [(text, "w0 w1") for text in X]
    assert advise(pairs, y, TextCodes(small, pairs=True), cv=2).baseline_score[0] > 0.7
    auto = AutoTransferTextClassifier(small, pairs=True, strategies=["bag of words"], cv=2)
    assert auto.fit(pairs, y).score(pairs, y) > 0.9
    assert auto.best_strategy_ == "bag of words"


def test_several_tags_a_text(small, told):
    X, y = told
    tags = np.column_stack([y == "good", np.arange(80) % 4 == 0]).astype(float)
    tags[7, 1] = np.nan
    auto = AutoTransferTextClassifier(small, strategies=CHEAP, cv=2).fit(X, tags)
    assert auto.predict(X).shape == auto.predict_proba(X).shape == (80, 2)
    assert auto.cv_results_["strategy"][0] == "bag of words"
    assert 0.5 < auto.cv_results_["mean_test_score"][0] <= 1


def test_kinds_call_items_by_their_name():
    assert kind_of([0, 1, 0, 1]) is LABELS
    of_texts = kind_of([0, 1, 0, 1], item="text")
    assert type(of_texts) is type(LABELS) and of_texts.told(4, [2, 2]).startswith("4 texts of 2")
    with pytest.raises(ValueError, match="at least 2 texts of some class"):
        of_texts.check(np.arange(4))


def test_plain_texts_are_those_of_any_input():
    pandas = pytest.importorskip("pandas")
    X = ["one", "two"]
    for given in (X, np.array(X), pandas.Series(X), pandas.DataFrame({"a": X})):
        assert plain_texts(given) == X
    assert plain_texts([("a", "b")], split="pairs") == ["a\nb"]
    with pytest.raises(TextError, match="text 1"):
        plain_texts(["one", None])


# AutoTransferTextClassifier.


def test_strategies_are_tried_and_the_best_is_kept(small, told):
    X, y = told
    auto = AutoTransferTextClassifier(small, strategies=CHEAP).fit(X, y)
    names = list(auto.cv_results_["strategy"])
    assert names[:3] == ["bag of words", "probe", "layer block.2"]
    assert names[-1].startswith("stacked ")
    assert auto.best_strategy_ == "bag of words"
    assert auto.best_score_ == auto.cv_results_["mean_test_score"].max()
    assert auto.classes_.tolist() == ["bad", "good"]
    assert auto.predict_proba(X).shape == (80, 2)
    assert auto.score(X, y) > 0.9
    again = pickle.loads(pickle.dumps(auto))
    assert (again.predict(X) == auto.predict(X)).all()


def test_it_takes_texts_in_any_form(small, toned):
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    X, y = toned
    auto = AutoTransferTextClassifier(small, strategies=["probe"], cv=2)
    plain = auto.fit(X, y).predict_proba(X)
    for given in (np.array(X), pandas.Series(X), pandas.DataFrame({"a": X}), pyarrow.array(X)):
        assert (clone(auto).fit(given, y).predict_proba(given) == plain).all()
    frame = pandas.DataFrame({"a": X})
    assert clone(auto).fit(frame, y).feature_names_in_.tolist() == ["a"]


def test_without_time_the_cheap_ones_are_there_all_the_same(small, toned):
    auto = AutoTransferTextClassifier(small, time_budget=0, strategies=CHEAP).fit(*toned)
    tried = auto.cv_results_["n_folds"] > 0
    assert auto.cv_results_["strategy"][tried].tolist() == ["bag of words", "probe"]
    assert all(reason.startswith("no time") for reason in auto.cv_results_["reason"][~tried])


def test_long_texts_are_a_strategy(small):
    y = np.arange(40) % 2
    X = texts_of(y, n_words=30)
    tried = AutoTransferTextClassifier(
        small, max_tokens=20, strategies=["probe", "long_texts"], cv=2
    ).fit(X, y).cv_results_["strategy"]  # fmt: skip
    assert tried.tolist() == ["probe", "probe, read by head", "probe, read by head_tail"]
    given = AutoTransferTextClassifier(
        small, max_tokens=20, strategies=["probe", "long_texts"], cv=2, long_texts="head_tail"
    )
    with pytest.warns(UserWarning, match="40 of 40 texts are longer"):
        assert given.fit(X, y).cv_results_["strategy"].tolist() == ["probe"]


def test_a_strategy_that_is_none_is_an_error(toned):
    with pytest.raises(ValueError, match="Did you mean 'bag of words'"):
        AutoTransferTextClassifier(strategies=["bag of word"]).fit(*toned)
    with pytest.raises(TextError, match="text 1"):
        AutoTransferTextClassifier(strategies=["probe"]).fit(["a", "", "b", "c"], [0, 1, 0, 1])


# Fine-tuned networks.


def test_fine_tuned_networks_are_advised_and_tried(small, toned):
    X, y = toned
    codes = TextCodes(small, max_tokens=30, pooling="max")
    advice = advise(X, y, codes, cv=2, fine_tune=True, vote=False)
    tuned = advice.estimator
    assert (advice.strategy, type(tuned)) == ("fine-tune last", FineTuneTextClassifier)
    assert (tuned.trainable, tuned.layer, advice.layer) == (2, None, "block.3")
    assert (tuned.backbone, tuned.max_tokens, tuned.pooling) == (small, 30, "max")
    assert advice.param_grid["trainable"] == [1, 2, "all"]
    probe = {n: m for n, m, _ in advice.layer_scores}["block.3"]
    assert advice.expected_accuracy == pytest.approx(1 - 0.9 * (1 - probe))
    assert "Two thirds of the blocks are trained" in repr(advice) and "image" not in repr(advice)
    values = advise(X, y + 0.1 * np.arange(60) / 60, small, cv=2, fine_tune=True)
    assert isinstance(values.estimator, FineTuneTextRegressor)
    auto = AutoTransferTextClassifier(
        small, strategies=["fine-tune last", "fine-tune all"], time_budget=None, cv=2,
        max_epochs=1, random_state=0,
    ).fit(X, y)  # fmt: skip
    names = ["probe", "fine-tune last", "fine-tune all"]
    assert auto.cv_results_["strategy"].tolist() == names
    assert np.isfinite(auto.cv_results_["mean_test_score"]).all()
    assert auto.predict(X).shape == (60,)


def test_without_time_nothing_is_fine_tuned(small, toned):
    auto = AutoTransferTextClassifier(small, time_budget=0).fit(*toned)
    assert auto.cv_results_["reason"][-1].startswith("no time")
    assert auto.best_strategy_ in ("bag of words", "probe")


class _OfNumbers(AutoTransferTextClassifier):
    """The same of rows of numbers, which scikit-learn's checks feed: a row is a text."""

    def fit(self, X, y):
        super().fit(_written(validate_data(self, X)), y)
        validate_data(self, X)  # texts have no number of columns
        return self

    def _fitted(self, X):
        check_is_fitted(self, "best_estimator_")
        estimator, rows = self.best_estimator_, _written(validate_data(self, X, reset=False))
        return _Given(estimator, rows)


class _Given:
    """An estimator that is asked of the same texts whatever it is given."""

    def __init__(self, estimator, rows):
        self._estimator, self._rows = estimator, rows

    def __getattr__(self, name):
        return lambda X: getattr(self._estimator, name)(self._rows)


def _written(rows):
    return [" ".join(f"{number:.3g}" for number in row) for row in rows]


@pytest.mark.slow  # each fit tries two strategies
@parametrize_with_checks([_OfNumbers(strategies=["probe", "layers"], cv=2)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)
