"""What is remembered of a network without the network."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from ..exceptions import WeightsMismatchError
from ._spec import Backbone, Preprocessing, weights_by_name

__all__ = ["BackboneInfo"]


@dataclass(frozen=True)
class BackboneInfo:
    """Which network a transformer was fitted with.

    Attributes
    ----------
    name, source : str
        Name of the network and where it comes from.
    weights : str or None
        Name of its weights; None for random ones.
    fingerprint : str
        Hash of its architecture and every weight, in hexadecimal.
    preprocessing : Preprocessing
        What the weights want images, or texts, to be.
    portable : bool
        Whether name and weights suffice to have the same network elsewhere.
    reference : tuple
        The name with its source, and the `weights` parameter, that it was loaded with.
    """

    name: str
    source: str
    weights: str | None
    fingerprint: str
    preprocessing: Preprocessing
    portable: bool
    reference: tuple[Any, Any]

    @classmethod
    def of(cls, backbone: Backbone, weights: Any) -> BackboneInfo:
        """The facts about a backbone that was loaded with this `weights` parameter."""
        weights = weights_by_name(weights)
        weights = os.fspath(weights) if isinstance(weights, os.PathLike) else weights
        reference = (backbone.reference, weights)
        return cls(
            name=backbone.name,
            source=backbone.source,
            weights=backbone.weights,
            fingerprint=backbone.fingerprint,
            preprocessing=backbone.preprocessing,
            portable=backbone.portable,
            reference=reference,
        )

    def load(self) -> Backbone:
        """Have the network again.

        Raises
        ------
        WeightsUnavailableError
            If its weights are not on this machine and cannot be downloaded.
        WeightsMismatchError
            If they are other weights than those of the fit.
        """
        backbone = self._found()
        if backbone.fingerprint != self.fingerprint:
            raise WeightsMismatchError(
                f"The weights of {self.name!r} ({self.weights}) are not those that this "
                f"estimator was fitted with: their fingerprint must be {self.fingerprint}, "
                f"but is {backbone.fingerprint}. Install the version of {self.source} that it "
                "was saved with, fit it again, or save it with bundle_weights=True."
            )
        return backbone

    def _found(self) -> Backbone:
        from ._load import load_backbone  # with torch

        name, weights = self.reference
        return load_backbone(name, weights=weights, preprocessing=self.preprocessing)
