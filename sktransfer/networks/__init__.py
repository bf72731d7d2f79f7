"""Networks: a name becomes a network, its preprocessing, a fingerprint and cut points."""

from __future__ import annotations

from ._load import load_backbone
from ._registry import list_backbones, register_backbone
from ._spec import Backbone, Preprocessing

__all__ = ["Backbone", "Preprocessing", "list_backbones", "load_backbone", "register_backbone"]
