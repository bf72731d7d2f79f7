"""Networks of timm as repositories of the Hugging Face hub describe them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..exceptions import BackboneError, UnknownBackboneError, WeightsUnavailableError, shown
from ._hub import FILENAMES, hub_file
from ._timm import TimmArchitecture

__all__ = ["HubArchitecture"]

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

    def _file(self, facts: Any, what: str, verbose: int) -> Path:
        names = (facts.hf_hub_filename,) if facts.hf_hub_filename else FILENAMES
        return hub_file(self._repo, names, revision=self._revision, verbose=verbose)


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
