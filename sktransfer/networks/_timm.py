"""Networks of timm by name, with the weights that timm lists."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..exceptions import (
    BackboneError,
    PreprocessingError,
    UnknownBackboneError,
    WeightsMismatchError,
    WeightsUnavailableError,
    did_you_mean,
    shown,
)
from ._download import FILENAMES, cached_download, digest_in_name, hub_file
from ._spec import Preprocessing, as_preprocessing
from ._weights import (
    Architecture,
    Pretrained,
    build_random,
    build_structure,
    describe_mismatch,
    find_weights,
    load_state,
    n_classes,
    named,
    read_file,
    state_of,
    without_further_heads,
    without_head,
)

__all__ = ["HubArchitecture", "TimmArchitecture", "preprocessing_of"]


State = Mapping[str, torch.Tensor]


class TimmArchitecture(Architecture):
    """A network of timm, ``"resnet50"``, or with a tag of weights, ``"resnet50.a1_in1k"``."""

    source = "timm"

    def __init__(self, name: str):
        self.name, _, self._tag = name.partition(".")
        self.reference = f"timm:{name}"
        self.identity = f"timm:{self.name}"
        self._options: dict[str, Any] = {}

    def build(self, num_classes: int | None = None, **options: Any) -> nn.Module:
        import timm

        options = {"pretrained": False, **self._options, **options}
        if num_classes is not None:
            options["num_classes"] = num_classes
        return timm.create_model(self.name, **options)

    def weights_names(self) -> list[str]:
        import timm

        tags = [one.partition(".")[2] for one in timm.list_pretrained(f"{self.name}.*")]
        first = self._tag or getattr(self._facts(""), "tag", None)
        return sorted(tags, key=lambda tag: tag != first)

    def default_preprocessing(self) -> Preprocessing:
        return preprocessing_of(self._facts(self._tag), self.reference)

    def pretrained(self, weights: str) -> Pretrained:
        tag = self._resolve(weights)
        facts = self._facts(tag)
        preprocessing = preprocessing_of(facts, self.reference)  # before anything is downloaded
        path = self._file(facts, f"{self.reference} with weights {tag}")
        content = read_file(path)
        try:
            module = self.from_state(state_of(content, path), str(path))
        except WeightsMismatchError as error:
            module = self._in_timms_way(tag, content, error)
        return Pretrained(module, tag, preprocessing)

    def published(self, path: Path, sha256: str) -> tuple[str, Preprocessing] | None:
        for tag in self.weights_names():
            facts = self._facts(tag)
            digits = digest_in_name(facts.url) if isinstance(facts.url, str) else None
            # The hub's cache has a folder per repository, and files under their SHA-256.
            own = f"models--{(facts.hf_hub_id or '-').replace('/', '--')}"
            cached = own in path.parts and path.resolve().name == sha256
            if cached or (digits and sha256.startswith(digits)):
                return tag, preprocessing_of(facts, self.reference)
        return None

    def from_state(self, state: State, what: str) -> nn.Module:
        """The network with weights from a file, in timm's names or in their authors'."""
        heads = self._heads()
        n = n_classes(state, heads)
        module = build_structure(partial(self.build, 0 if n is None else n))
        state, prefix = find_weights(state, module.state_dict(), what, heads)
        n = n_classes(state, heads)
        what = named(what, prefix)
        bare = state if n else without_head(state, heads)
        # A file without timm's classifier has none, or has it under another name.
        for classes in (0, None) if n is None else (n,):
            module = build_structure(partial(self.build, classes))
            for candidate in (state, bare, _translate(module, state)):
                if candidate is not None and not describe_mismatch(module, candidate):
                    return load_state(module, candidate, what)
            alone = without_further_heads(module, bare, what, heads)
            if alone is not bare:
                return load_state(module, alone, what)
        return load_state(build_structure(partial(self.build, n)), state, what)

    def _heads(self) -> set[str]:
        names = getattr(self._facts(self._tag), "classifier", None) or ()
        names = (names,) if isinstance(names, str) else names
        return {f"{name}.{kind}" for name in names for kind in ("weight", "bias")}

    def _resolve(self, weights: str) -> str:
        known = self.weights_names()
        tag = weights.removeprefix(f"{self.name}.")
        if weights == "default":
            tag = self._tag or (known[0] if known else "")
        if self._tag and tag != self._tag:
            raise WeightsUnavailableError(
                f"backbone={self.reference!r} and weights={weights!r} name different weights; "
                f'leave weights="default", or write backbone="timm:{self.name}".'
            )
        if tag not in known:
            raise WeightsUnavailableError(
                f"weights={tag or weights!r}: timm has no such weights for {self.name}. "
                f"{did_you_mean(tag, known)}It has {', '.join(known) or 'none at all'}; "
                "weights=None has random ones, and a file needs a name with .pth, .pt or "
                ".safetensors."
            )
        return tag

    def _facts(self, tag: str) -> Any:
        """timm's PretrainedCfg, or None where it has none."""
        from timm.models import get_pretrained_cfg

        try:
            return get_pretrained_cfg(f"{self.name}.{tag}" if tag else self.name)
        except RuntimeError:  # no such tag; _resolve says so
            return get_pretrained_cfg(self.name)

    def _file(self, facts: Any, what: str) -> Path:
        if facts.hf_hub_id:
            repo, _, revision = facts.hf_hub_id.partition("@")
            names = (facts.hf_hub_filename,) if facts.hf_hub_filename else FILENAMES
            return hub_file(repo, names, revision=revision or None)
        if isinstance(facts.url, str):
            return cached_download(facts.url, what)
        raise WeightsUnavailableError(f"timm names no file for {what}; pass one as weights=.")

    def _in_timms_way(self, tag: str, content: Any, reason: Exception) -> nn.Module:
        """Some files need changes that only timm's own constructor of the network knows."""
        overlay = {"state_dict": content, "source": None, "custom_load": False}
        try:
            module: Any = build_random(
                partial(
                    self.build, pretrained=True, pretrained_cfg=tag, pretrained_cfg_overlay=overlay
                )
            )
        except Exception as error:
            raise reason from error
        module.pretrained_cfg.pop("state_dict", None)  # a second copy of all weights
        return module


def _translate(module: nn.Module, state: State) -> State | None:
    """Weights under the names that their authors gave them, as timm knows to read them."""
    home = sys.modules[type(module).__module__]
    translate = getattr(home, "checkpoint_filter_fn", None)
    if translate is None:
        return None
    try:
        return translate(dict(state), module)
    except Exception:  # made for other files; the comparison of names explains more
        return None


def preprocessing_of(facts: Any, what: str) -> Preprocessing:
    """What timm knows about images for weights.

    Parameters
    ----------
    facts : timm.models.PretrainedCfg, mapping or None
    what : str
        Whose they are, for messages.
    """
    from timm.data import resolve_data_config

    found = facts.to_dict() if hasattr(facts, "to_dict") else dict(facts or {})
    # timm itself would take ImageNet's mean without a word.
    if not (found.get("mean") and found.get("std") and found.get("input_size")):
        raise PreprocessingError(
            f"timm says nothing of how images are prepared for {what}; "
            "pass preprocessing=Preprocessing(...)."
        )
    if (channels := found["input_size"][0]) not in (1, 3):
        raise BackboneError(
            f"{what} takes images of {channels} channels; a backbone must take 3 (RGB) or 1 (grey)."
        )
    return as_preprocessing(resolve_data_config(pretrained_cfg=found))


# Networks of timm as repositories of the Hugging Face hub describe them.


# What a repository may not decide: where weights come from and how they are read.
_OURS = {
    "cache_dir",
    "checkpoint_path",
    "model_name",
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "pretrained_strict",
}


class HubArchitecture(TimmArchitecture):
    """A network by repository, ``"organisation/name"``, or ``"organisation/name@revision"``.

    Its ``config.json`` tells the architecture and its preprocessing.

    Parameters
    ----------
    repo : str
    config : dict or None
        What its ``config.json`` holds, where that is known already.
    """

    def __init__(self, repo: str, config: dict[str, Any] | None = None):
        self._repo, _, revision = repo.partition("@")
        self._revision = revision or None
        self._config = _read_config(self._repo, self._revision) if config is None else config
        super().__init__(_architecture_of(self._config, repo))
        self.reference = f"hf-hub:{repo}"
        arguments = self._config.get("model_args") or {}
        self._options = {k: v for k, v in arguments.items() if k not in _OURS}
        self._options["pretrained_cfg"] = self._facts("").to_dict()
        if (n := self._facts("").num_classes) is not None:
            self._options.setdefault("num_classes", n)
        self.identity += json.dumps(arguments, sort_keys=True) if arguments else ""

    def describe(self) -> dict[str, Any]:
        return {"reference": self.reference, "config": self._config}

    def weights_names(self) -> list[str]:
        return ["default"]

    def published(self, path: Path, sha256: str) -> None:
        return None

    def _resolve(self, weights: str) -> str:
        if weights == "default":
            return weights
        raise WeightsUnavailableError(
            f"weights={weights!r}: a repository of the hub has one set of weights, "
            f'"default"; for another revision write backbone="hf-hub:{self._repo}@{weights}".'
        )

    def _facts(self, tag: str) -> Any:
        from timm.models import PretrainedCfg

        described = dict(self._config.get("pretrained_cfg") or self._config)
        if "num_classes" in self._config:
            described["num_classes"] = self._config["num_classes"]
        fields = PretrainedCfg.__dataclass_fields__.keys() - {"state_dict", "file", "url"}
        facts = PretrainedCfg(**{k: v for k, v in described.items() if k in fields})
        # timm's defaults are ImageNet's; here only what the repository says counts.
        for name in ("mean", "std", "input_size"):
            if name not in described:
                setattr(facts, name, None)
        facts.source = None
        return facts

    def _file(self, facts: Any, what: str) -> Path:
        names = (facts.hf_hub_filename,) if facts.hf_hub_filename else FILENAMES
        return hub_file(self._repo, names, revision=self._revision)


def _read_config(repo: str, revision: str | None) -> dict[str, Any]:
    path = hub_file(repo, ["config.json"], revision=revision)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BackboneError(f"{shown(path)}, of hf-hub:{repo}, is no JSON: {error}.") from error
    if not isinstance(config, dict):
        raise BackboneError(f"{shown(path)}, of hf-hub:{repo}, must hold an object.")
    return config


def _architecture_of(config: dict[str, Any], repo: str) -> str:
    import timm

    name = config.get("architecture")
    if not isinstance(name, str) or not timm.is_model(name):
        raise UnknownBackboneError(
            f"hf-hub:{repo} is no network of timm {timm.__version__}: the architecture in its "
            f"config.json must be one of timm's, got {name!r}."
        )
    return name
