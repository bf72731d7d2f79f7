"""Networks for text that are fine-tuned to label every word."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from common import assert_equal, learnt
from networks_for_text import small_model, small_tokenizer, words
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from sktransfer import FineTuneTokenLabeller, TokenCodes, entity_f1  # noqa: E402
from sktransfer.exceptions import InputError, TextError  # noqa: E402
from sktransfer.finetune._rows import TextRows  # noqa: E402
from sktransfer.inputs import as_texts  # noqa: E402

N = 20
SENTENCES = [words(2 + seed % 7, seed=seed).split() for seed in range(N)]
LABELS = [["even" if int(word[1:]) % 2 == 0 else "odd" for word in one] for one in SENTENCES]
# Words that the tokenizer leaves out, no word at all, and more than the network reads.
ODD = [[], ["w1", " ", "w2", " "], [" "], words(100, seed=3).split(), ["w3"]]


@pytest.fixture
def settings(text_network):
    return {
        "backbone": text_network, "trainable": 1, "max_epochs": 2, "batch_size": 8, "lr": 1e-2,
        "engine": "torch", "amp": "float32", "random_state": 0,
    }  # fmt: skip


@pytest.mark.parametrize("trainable", ["head", 1, "all"])
def test_codes_before_training_are_those_of_token_codes(settings, trainable):
    given = {**settings, "trainable": trainable, "max_epochs": 0}
    labeller = FineTuneTokenLabeller(**given).fit(SENTENCES, LABELS)
    sentences = [*ODD, *SENTENCES]
    expected = TokenCodes(settings["backbone"], layer=-1, engine="torch").fit_transform(sentences)
    for found, codes in zip(labeller.transform(sentences), expected, strict=True):
        np.testing.assert_allclose(found, codes, atol=1e-5)


def test_the_loss_of_a_batch_is_the_mean_over_its_words(settings):
    labeller = FineTuneTokenLabeller(**{**settings, "max_epochs": 0}).fit(SENTENCES, LABELS)
    model, fitted = labeller._load_model(), labeller._fitted
    prefix = labeller._frozen_pass(fitted, ["cpu"])
    rows = TextRows(as_texts(SENTENCES, split="words"), prefix, np.float32, path=None, keep=False)
    target = fitted.task.encode(LABELS, LABELS)
    weight = torch.from_numpy(fitted.task.sample_weights(target, None))
    out = model.module.train()(rows.take(range(N)))
    losses = fitted.task.losses(out, torch.from_numpy(target))
    found = (losses * weight).sum() / weight.sum()
    found.backward()

    whole, head = small_model(), model.module.head  # a sentence at a time, nothing cut or padded
    said, wanted = [], []
    for sentence, labels in zip(SENTENCES, LABELS, strict=True):
        ids = torch.tensor([small_tokenizer().encode(" ".join(sentence)).ids])
        said.append(head(whole(ids).last_hidden_state[0, 1:-1]))
        wanted += [int(label == "odd") for label in labels]
    expected = torch.nn.functional.cross_entropy(torch.cat(said), torch.tensor(wanted))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5, check_dtype=False)
    expected.backward()
    others = dict(whole.named_parameters())
    for name, value in model.module.tail.named_parameters():
        if value.requires_grad:
            torch.testing.assert_close(value.grad, others[name].grad, atol=1e-6, rtol=1e-4)
    right, asked = fitted.task.hits(out, torch.from_numpy(target))
    assert right.sum() == (torch.cat(said).argmax(1) == torch.tensor(wanted)).sum()
    assert asked.tolist() == [len(one) for one in SENTENCES]


@pytest.mark.parametrize("class_weight", ["balanced", {"even": 1.0, "rare": 7.0}])
def test_the_loss_weighs_the_labels_of_words(settings, class_weight):
    """As torch's own weighted cross-entropy over all words does, for the head and the stages."""
    labels = [["rare" if word.endswith("7") else one for word, one in zip(*pair, strict=True)]
              for pair in zip(SENTENCES, LABELS, strict=True)]  # fmt: skip
    given = {**settings, "max_epochs": 0, "class_weight": class_weight}
    labeller = FineTuneTokenLabeller(**given).fit(SENTENCES, labels)
    task, target = labeller._task, labeller._task.encode(labels, labels)
    flat = np.array([one for sentence in labels for one in sentence])
    counts = np.array([(flat == one).sum() for one in labeller.classes_])
    weights = np.array([1.0, 1.0, 7.0])
    if class_weight == "balanced":
        weights = len(flat) / (3 * counts)
    assert labeller.classes_.tolist() == ["even", "odd", "rare"]
    out = torch.randn(N, target.shape[1] + 1, 3, generator=torch.manual_seed(0))
    weight = torch.from_numpy(task.sample_weights(target, None))
    found = (task.losses(out, torch.from_numpy(target)) * weight).sum() / weight.sum()
    there = target >= 0
    expected = torch.nn.functional.cross_entropy(
        out[:, :-1][torch.from_numpy(there)], torch.from_numpy(target[there]).long(),
        weight=torch.tensor(weights, dtype=torch.float32),
    )  # fmt: skip
    torch.testing.assert_close(found.float(), expected, rtol=1e-4, atol=1e-5)
    _, _, of_words = task.for_head(list(out[:, :-1].numpy()), target, None)
    np.testing.assert_allclose(of_words / of_words.mean(), weights[target[there]] / (
        weights[target[there]].mean()), rtol=1e-6)  # fmt: skip
    if class_weight == "balanced":
        with pytest.raises(ValueError, match="needs all labels at once"):
            FineTuneTokenLabeller(**given).partial_fit(SENTENCES, labels)


def test_it_learns_and_every_word_has_a_label(settings):
    more = {**settings, "max_epochs": 12, "trainable": "all"}
    labeller = FineTuneTokenLabeller(**more).fit(SENTENCES, LABELS)
    assert labeller.score(SENTENCES, LABELS) > 0.95
    assert labeller.classes_.tolist() == ["even", "odd"] and labeller.scheme_ is None
    sentences = [*ODD, *SENTENCES]
    predicted, likely = labeller.predict(sentences), labeller.predict_proba(sentences)
    assert [len(one) for one in predicted] == [len(one) for one in sentences]
    for one, other in zip(likely, sentences, strict=True):
        assert one.shape == (len(other), 2)
        np.testing.assert_allclose(one.sum(1), 1)
    # Alone and in any batch the same.
    for number in (1, 3, 4, 7):
        np.testing.assert_array_equal(
            labeller.predict_proba([sentences[number]])[0], likely[number]
        )
    labeller.set_params(decode="independent")
    for one, other in zip(labeller.predict(sentences), likely, strict=True):
        assert one.tolist() == labeller.classes_[other.argmax(1)].tolist()


def test_entities_are_always_a_sequence_that_the_scheme_allows(settings):
    draw = np.random.default_rng(0)
    labels = [["B-X", *draw.choice(["I-X", "O"], len(one) - 1)] for one in SENTENCES]
    labels = [
        ["O" if label == "I-X" and before == "O" else label
         for before, label in zip(["B-X", *one], one, strict=False)] for one in labels
    ]  # fmt: skip
    for one in labels:  # "I-X" behind "O" became "O", and what was behind that too
        for i in range(1, len(one)):
            if one[i] == "I-X" and one[i - 1] == "O":
                one[i] = "O"
    labeller = FineTuneTokenLabeller(**settings).fit(SENTENCES, labels)
    assert labeller.scheme_ == "BIO"
    found = labeller.predict([*SENTENCES, *ODD])
    for one in found:
        for before, label in zip(["O", *one], one, strict=False):
            assert label != "I-X" or before in ("B-X", "I-X")
    assert labeller.score(SENTENCES, labels) == entity_f1(labels, labeller.predict(SENTENCES))


@pytest.mark.parametrize("trainable", ["head", 1, "all"])
def test_the_same_bits_with_and_without_keeping(settings, trainable):
    given = {**settings, "trainable": trainable, "cache": None}
    kept = FineTuneTokenLabeller(**given, cache_activations="disk").fit(SENTENCES, LABELS)
    anew = FineTuneTokenLabeller(**given, cache_activations=False).fit(SENTENCES, LABELS)
    assert_equal(learnt(kept), learnt(anew))
    again = pickle.loads(pickle.dumps(kept))
    for one, other in zip(again.predict_proba(ODD), kept.predict_proba(ODD), strict=True):
        np.testing.assert_array_equal(one, other)
    assert_equal(learnt(clone(kept).fit(SENTENCES, LABELS)), learnt(kept))


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.filterwarnings("ignore:early_stopping=True needs some 100")
def test_heads_early_stopping_and_weights(settings, head):
    labeller = FineTuneTokenLabeller(**settings, head=head, early_stopping=True)
    labeller.fit([*SENTENCES, []], [*LABELS, []], np.arange(1.0, N + 2))
    assert 1 <= labeller.best_epoch_ <= 2
    assert 0 <= labeller.history_[-1]["valid_acc"] <= 1
    labeller.partial_fit(SENTENCES, LABELS)
    assert labeller.unfreeze(2).partial_fit(SENTENCES, LABELS).score(SENTENCES, LABELS) > 0.3


def test_a_fit_that_was_killed_resumes(settings, tmp_path, monkeypatch):
    from sktransfer.finetune._net import _Steps

    whole = FineTuneTokenLabeller(**settings).fit(SENTENCES, LABELS)
    plain, left = _Steps.train_step_single, [4]

    def step(self, batch, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("killed")
        return plain(self, batch, **kwargs)

    labeller = FineTuneTokenLabeller(**settings, checkpoint_dir=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(_Steps, "train_step_single", step)
        with pytest.raises(RuntimeError, match="killed"):
            labeller.fit(SENTENCES, LABELS)
    assert_equal(learnt(labeller.fit(SENTENCES, LABELS)), learnt(whole))


def test_a_search_shows_each_sentence_to_the_frozen_part_once(settings, passes):
    search = GridSearchCV(FineTuneTokenLabeller(**settings), {"lr": [1e-3, 1e-2]}, cv=2)
    search.fit(SENTENCES, LABELS)
    # To the cut, and to the codes that the head starts from.
    assert passes["images"] == 2 * N


def test_validation_data_and_sentences_of_other_lengths(settings):
    labeller = FineTuneTokenLabeller(**settings).fit(
        SENTENCES[:12], LABELS[:12], validation_data=(SENTENCES[12:], LABELS[12:])
    )
    assert "valid_loss" in labeller.history_[-1]
    with pytest.raises(InputError, match="Sentence 1 has 9 words but 8 labels"):
        wrong = [LABELS[12], *LABELS[13:]]
        wrong[1] = [*wrong[1], *["odd"] * 8][:8]
        sentences = [SENTENCES[12], words(9, seed=1).split(), *SENTENCES[14:]]
        labeller.fit(SENTENCES, LABELS, validation_data=(sentences, wrong))


def test_labels_that_do_not_match(settings):
    labeller = FineTuneTokenLabeller(**settings)
    with pytest.raises(InputError, match="Sentence 2 has 4 words but 3 labels"):
        labeller.fit(SENTENCES, [*LABELS[:2], LABELS[2][:3], *LABELS[3:]])
    with pytest.raises(InputError, match="Sentence 3: the label of word 1 is missing"):
        labeller.fit(SENTENCES, [*LABELS[:3], [*LABELS[3][:1], None, *LABELS[3][2:]], *LABELS[4:]])
    with pytest.raises(ValueError, match="at least 2 classes, got 1 class: 'odd'"):
        labeller.fit(SENTENCES, [["odd"] * len(one) for one in SENTENCES])
    with pytest.raises(TextError, match=r"text 1: .*w1 w2"):
        labeller.fit([["w1"], "w1 w2"], [["odd"], ["odd", "even"]])
    assert not hasattr(labeller, "backbone_")
    labeller.partial_fit(SENTENCES, LABELS, classes=["even", "odd", "third"])
    with pytest.raises(ValueError, match=r"must hold the classes .*got 'fourth' in sentence 0"):
        labeller.partial_fit([["w1"]], [["fourth"]])
    assert labeller.partial_fit([["w1"]], [["third"]]).classes_.tolist() == ["even", "odd", "third"]
