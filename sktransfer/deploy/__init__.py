"""Fitted estimators where they work: as plain networks, as files that run elsewhere, in a service.

``to_torch`` is the centre: `_to_torch` finds what a fitted estimator computes of an image, as a
network, a head (`_linear`) and a link; `_network` has the module that is made of them. `_files`
writes it in the formats of others, and believes no file before it has run it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazily

if TYPE_CHECKING:
    from ._files import export
    from ._network import ImageNetwork
    from ._to_torch import to_torch
    from ._warm_up import warm_up

__all__ = ["ImageNetwork", "export", "to_torch", "warm_up"]

# A service that only warms up needs none of the others, nor torch.
__getattr__, __dir__ = lazily(
    __name__,
    {
        "_files": ["export"],
        "_network": ["ImageNetwork"],
        "_to_torch": ["to_torch"],
        "_warm_up": ["warm_up"],
    },
)
