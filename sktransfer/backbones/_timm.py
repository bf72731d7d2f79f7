"""Networks of timm, with published weights from its lists or from the Hugging Face hub."""

from __future__ import annotations

import json
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from ..exceptions import (
    BackboneError,
    PreprocessingError,
    WeightsMismatchError,
    WeightsUnavailableError,
)
from ._architecture import Architecture, Pretrained, State, load_any_head
from ._build import build_random
from ._checkpoint import read_state
from ._download import cached_download
from ._hub import hub_file
from ._spec import Preprocessing
from ._suggest import did_you_mean

__all__ = ["HubArchitecture", "TimmArchitecture", "timm_names"]

_FILES = ("model.safetensors", "pytorch_model.bin")


def timm_names() -> list[str]:
    """Names of timm's architectures, without tags."""
    import timm

    return timm.list_models()


class TimmArchitecture(Architecture):
    """A network of timm, ``"resnet50"`` or with a tag of weights, ``"resnet50.a1_in1k"``."""

    source = "timm"

    def __init__(self, name: str):
        self.name, _, self._tag = name.partition(".")
        self.reference = f"timm:{name}"
        self.identity = f"timm:{self.name}"
        self._options: dict[str, Any] = {}

    def build(self, num_classes: int | None = None) -> nn.Module:
        import timm

        options = dict(self._options)
        if num_classes is not None:
            options["num_classes"] = num_classes
        return timm.create_model(self.name, pretrained=False, **options)

    def random(self) -> nn.Module:
        return build_random(self.build)

    def weights_names(self) -> list[str]:
        from timm.models import list_models

        tagged = list_models(f"{self.name}.*", pretrained=True)
        tags = [name.partition(".")[2] for name in tagged]
        first = self._tag or _tag_of(self.name)
        return sorted(tags, key=lambda tag: tag != first)

    def default_preprocessing(self) -> Preprocessing:
        return preprocessing_of(self._facts(self._tag), self.reference)

    def pretrained(self, weights: str, *, verbose: int = 0) -> Pretrained:
        known = self.weights_names()
        tag = (known[0] if known else "") if weights == "default" else weights
        if tag not in known:
            raise WeightsUnavailableError(
                f"weights={weights!r}: timm has no such weights for {self.name}. "
                f"{did_you_mean(tag, known)}It has {', '.join(known) or 'none at all'}."
            )
        facts = self._facts(tag)
        path = self._file(facts, tag, verbose)
        module = self.from_state(read_state(path), str(path))
        return Pretrained(module, tag, preprocessing_of(facts, self.reference))

    def from_state(self, state: State, what: str) -> nn.Module:
        try:
            return load_any_head(self.build, state, what)
        except WeightsMismatchError:
            translated = self._translate(state)
            if translated is None:
                raise
            return load_any_head(self.build, translated, what)

    def _translate(self, state: State) -> State | None:
        """Weights under the names that their authors gave them, as timm knows to read them."""
        module = self.build()
        home = sys.modules[type(module).__module__]
        translate = getattr(home, "checkpoint_filter_fn", None)
        if translate is None:
            return None
        try:
            return translate(dict(state), module)
        except Exception:  # made for other files; the comparison of names explains more
            return None

    def _facts(self, tag: str) -> Any:
        from timm.models import get_pretrained_cfg

        facts = get_pretrained_cfg(f"{self.name}.{tag}" if tag else self.name)
        if facts is None:
            raise PreprocessingError(
                f"timm says nothing of how images are prepared for {self.reference}; "
                "pass preprocessing=Preprocessing(...)."
            )
        return facts

    def _file(self, facts: Any, tag: str, verbose: int) -> Path:
        what = f"{self.reference} with weights {tag}"
        if facts.hf_hub_id:
            repo = facts.hf_hub_id
            if repo.endswith("/"):
                repo += f"{self.name}.{tag}"
            files = (facts.hf_hub_filename,) if facts.hf_hub_filename else _FILES
            return hub_file(repo, files, verbose=verbose)
        if facts.url:
            return cached_download(facts.url, what, verbose=verbose)
        raise WeightsUnavailableError(f"timm names no file for {what}; pass one as weights=.")


class HubArchitecture(TimmArchitecture):
    """A network of timm as a repository of the hub describes it, ``"hf-hub:org/name"``."""

    def __init__(self, repo: str):
        self._repo, _, revision = repo.partition("@")
        self._revision = revision or None
        self.reference = f"hf-hub:{repo}"
        self._tag = ""

    @property
    def name(self) -> str:  # type: ignore[override]
        return str(self._config["architecture"])

    @property
    def identity(self) -> str:  # type: ignore[override]
        return f"timm:{self.name} {sorted(self._options.items())}"

    @cached_property
    def _config(self) -> dict[str, Any]:
        path = hub_file(self._repo, ["config.json"], revision=self._revision)
        config = json.loads(path.read_text())
        if "architecture" not in config:
            raise BackboneError(
                f"{self.reference} is no network of timm: its config.json must name an "
                f"architecture, but has {', '.join(list(config)[:6])}."
            )
        return config

    @property
    def _options(self) -> dict[str, Any]:  # type: ignore[override]
        config = self._config
        facts = config.get("pretrained_cfg", config)
        classes = {"num_classes": config.get("num_classes", facts.get("num_classes"))}
        return {**config.get("model_args", {}), **{k: v for k, v in classes.items() if v}}

    def weights_names(self) -> list[str]:
        return [self._revision or "main"]

    def _facts(self, tag: str) -> Any:
        from timm.models import PretrainedCfg

        facts = self._config.get("pretrained_cfg", self._config)
        known = {k: v for k, v in facts.items() if k in PretrainedCfg.__dataclass_fields__}
        return PretrainedCfg(**known)

    def _file(self, facts: Any, tag: str, verbose: int) -> Path:
        return hub_file(self._repo, _FILES, revision=self._revision, verbose=verbose)


def _tag_of(name: str) -> str:
    """Tag of an architecture's default weights."""
    from timm.models import get_pretrained_cfg

    facts = get_pretrained_cfg(name)
    return str(facts.tag or "") if facts is not None else ""


def preprocessing_of(facts: Any, what: str) -> Preprocessing:
    """What timm knows about images for weights."""
    from timm.data import resolve_data_config

    found = facts.to_dict()
    channels, height, width = found.get("input_size") or (0, 0, 0)
    if not found.get("mean") or not found.get("std") or not height:
        raise PreprocessingError(
            f"timm says nothing of how images are prepared for {what}; "
            "pass preprocessing=Preprocessing(...)."
        )
    if channels != 3:
        raise BackboneError(f"{what} takes images of {channels} channels; it must be 3 (RGB).")
    config = resolve_data_config(pretrained_cfg=found)
    return Preprocessing(
        image_size=(height, width),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        crop_pct=config["crop_pct"],
        interpolation=config["interpolation"],
    )
