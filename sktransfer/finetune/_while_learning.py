"""How a network computes in the steps of training on a CPU: the same numbers in less time.

**Frozen batch norms** are computed with the weights of the convolution before them. In eval mode a
batch norm is a fixed scale a and shift b per channel, and conv(x, W)·a + b = conv(x, W·a) + b.
Weights are few and activations many, so that three passes over memory are spared in each step, and
the outputs of the convolution need not be kept for the gradients, which reach W and the parameters
of the norm through the product.

**Attention** over a few hundred tokens is computed as its formula says, since the gradients of
torch's own kernel, made for long sequences, take several times as long on a CPU.

References: S. Ioffe, C. Szegedy (2015). Batch normalization: Accelerating deep network training by
reducing internal covariate shift. ICML. Section 3.1 (inference). A. Vaswani et al. (2017).
Attention is all you need. NeurIPS. Section 3.2.1.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from ..networks import with_others
from ._gradients import is_spared, only_spared

__all__ = ["AttentionByProducts", "while_learning"]


def while_learning(tail: nn.Module) -> nn.Module:
    """What a tail is computed by in the steps of training.

    Parameters
    ----------
    tail : torch.nn.Module
        It is not changed, and shares its modules, parameters and buffers with the result.

    Returns
    -------
    torch.nn.Module
        The tail itself, where there is nothing to gain.
    """
    return with_others(
        tail, _ConvolutionAndNorm, {F.scaled_dot_product_attention: attention}
    )


class _ConvolutionAndNorm(nn.Module):
    """A convolution and the batch norm behind it, in one pass where the norm is frozen.

    Parameters
    ----------
    convolution, norm : torch.nn.Module
    """

    def __init__(self, convolution: nn.Module, norm: nn.Module):
        super().__init__()
        # Not as parts of this one, by which their parameters would have a second name each.
        vars(self).update(convolution=convolution, norm=norm)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        convolution: Any = self.convolution
        norm: Any = self.norm
        if norm.training or not (only_spared(convolution) and only_spared(norm)):
            out: torch.Tensor = norm(convolution(input))
            return out
        scale = torch.rsqrt(norm.running_var + norm.eps)
        scale = scale if norm.weight is None else scale * norm.weight
        shift = -norm.running_mean * scale
        shift = shift if norm.bias is None else shift + norm.bias
        if convolution.bias is not None:
            shift = shift + convolution.bias * scale
        weight = convolution.weight * scale.view(-1, 1, 1, 1)
        if is_spared(convolution):
            with torch.autocast("cpu", enabled=False):
                out = _convolve(convolution, input.float(), weight, shift)
        else:
            out = _convolve(convolution, input, weight, shift)
        # timm's norms may have an activation in them.
        return norm.act(norm.drop(out)) if hasattr(norm, "act") else out


def _convolve(
    convolution: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """What a convolution gives with other weights."""
    if type(convolution) is nn.Conv2d:
        return convolution._conv_forward(x, weight, bias)
    from timm.layers import conv2d_same

    p = convolution
    return conv2d_same(x, weight, bias, p.stride, p.padding, p.dilation, p.groups)


# Scores of all pairs of tokens in a layer: above it, memory counts for more than time.
_MOST_SCORES = 2**23


class AttentionByProducts(TorchFunctionMode):
    """While this is open, attention of this thread is computed by `attention`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            func = attention
        return func(*args, **(kwargs or {}))


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **others: Any,
) -> torch.Tensor:
    """`torch.nn.functional.scaled_dot_product_attention`, by products where this is faster.

    Parameters
    ----------
    query, key, value, attn_mask, dropout_p, is_causal, scale, others : object
        As torch has them.

    Returns
    -------
    Tensor
        As torch's, but for rounding.
    """
    n_scores = math.prod(query.shape[:-1]) * key.shape[-2]
    by_mask = attn_mask is None or attn_mask.dtype == torch.bool
    if dropout_p or is_causal or others or not by_mask or n_scores > _MOST_SCORES:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **others
        )
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.mT
    if attn_mask is None:
        return scores.softmax(-1).to(value.dtype) @ value
    # Not minus infinity: a row that attends to nothing is to be zero, and so its gradients.
    lowest = torch.finfo(scores.dtype).min
    weights = scores.masked_fill(~attn_mask, lowest).softmax(-1)
    weights = weights.masked_fill(~attn_mask.any(-1, keepdim=True), 0.0)
    return weights.to(value.dtype) @ value
