"""The parameters that both estimators have, written once."""

from __future__ import annotations

import textwrap
from typing import TypeVar

__all__ = ["with_parameters"]

PARAMETERS = """\
backbone : str or torch.nn.Module, default="efficientnet_lite0"
    Name of a network, or a module, which is copied; as in :class:`sktransfer.CNNCodes`, and so
    are `weights`, `preprocessing`, `image_size`, `resize`, `crop_pct`, `image_shape`,
    `value_range`, `device`, `engine`, `n_jobs` and `cache`.
weights : str, enum member, path or None, default="default"
    Pretrained weights; None learns from random ones.
layer : str or int, default=None
    Where the network ends, as in :class:`sktransfer.CNNCodes`; what is behind it is left out. None
    is the layer before the classifier. For photographs unlike those the network was trained on
    an earlier one may be the better start.
trainable : {"head", "all"}, int, str or list of str, default=2
    What learns besides the new head, which always does: nothing ("head"), the last so many
    stages, everything, or the layers of these names, also with ``*`` and ``?``.
method : {"full", "bitfit", "lora"}, default="full"
    "bitfit" lets only the biases learn of what is trainable; "lora" puts small matrices beside
    linear layers and convolutions (the extra ``lora``).
head : {"linear", "mlp"} or callable, default="linear"
    The new output layer; "mlp" has a hidden layer of 512. A callable takes the numbers of inputs
    and outputs and gives a module.
head_init : {"linear_probe", "random"}, default="linear_probe"
    "linear_probe" starts from a convex fit on the codes of the pretrained network, so that a
    random head does not distort good weights.
dropout : float, default=0.0
    Share of the head's inputs that are left out in training, in [0, 1).
lr : float, default=2e-3
    Learning rate of the head, whose inputs are divided by the root of their number.
backbone_lr_factor : float, default=0.1
    By which the rate of pretrained layers is smaller; 0 freezes them.
layer_decay : float, default=1.0
    By which the rate of each stage is smaller than that of the stage after it, in (0, 1].
optimizer : {"adamw", "sgd"} or class, default="adamw"
    "sgd" has Nesterov momentum 0.9. Any class of torch's kind; parameters by `net_params`.
weight_decay : float, default=1e-2
    Not applied to biases and norms.
l2_sp : float, default=0.0
    Pull towards the pretrained weights instead of towards zero.
schedule : {"cosine", "constant", "step"} or skorch LRScheduler, default="cosine"
    Rates over the batches of a fit; "step" falls to a tenth after two thirds.
warmup : float, default=0.3
    Share of the steps in which rates rise from zero, in [0, 1).
unfreeze_every : int, default=None
    The head learns first, and one stage more begins every so many epochs; fewer than
    ``max_epochs``, or none begins.
mixup : float, default=0.0
    Blend activations of pairs of photographs: parameter of the Beta distribution.
ema : float, default=None
    End with the moving average of what was learnt; decay in [0, 1), such as 0.99.
clip_grad : float, default=None
    Largest norm of the gradient.
batchnorm : {"frozen", "train"}, default="frozen"
    Whether batch norms that learn keep the pretrained statistics or follow the batches. What is
    frozen keeps them always.
max_epochs : int, default=10
    Times that every photograph is learnt from.
batch_size : int, default=32
    Photographs in a step.
augment : {"light", "auto"}, callable or None, default=None
    "light" mirrors; "auto" also shifts small photographs, crops large ones and changes colours;
    a transform of torchvision takes a PIL image.
augment_views : int, default=None
    Views of each photograph, of which every epoch draws the next; the first is the photograph
    itself. None is as many as epochs, at most 4 where something is frozen, and as memory and
    disk allow; `augment_views_` tells.
early_stopping : bool, default=False
    Hold `validation_fraction` out to find the best epoch, and then train anew on all images for so
    many epochs, as with ``max_epochs=best_epoch_``: up to twice the time. The best is the last
    epoch, unless its loss on what is held out is higher than the lowest by a paired t-test over the
    images, and its accuracy not. With `validation_data`, a `schedule` of your own, or callbacks
    that monitor validation nothing is trained anew: the weights of the best epoch come back.
    `partial_fit` takes no notice of it.
validation_fraction : float, default=0.1
    What `early_stopping` holds out, in (0, 1); classes keep their shares. Fewer than 100 images
    are warned of: so few seldom tell one epoch from another.
patience : int, default=5
    After so many epochs in a row that are worse than the best, those of `warmup` not counted,
    training ends.
image_size : int or (int, int), default=None
    Height and width in pixels that the network sees.
resize : {"pad", "squash", "crop"}, default="pad"
    How a photograph that is not square is made so.
crop_pct : float, default=None
    Part of the shorter side that ``resize="crop"`` keeps.
image_shape : tuple of int or "row", default=None
    Shape of an image in flattened rows.
value_range : "auto" or (float, float), default="auto"
    The numbers that mean black and white in arrays, and in files and PIL images of more
    than 8 bits; files of 8 bits need none.
preprocessing : Preprocessing, dict, transforms or "default", default=None
    Needed only where weights do not tell.
device : str or list of str, default="auto"
    Learning takes the first of several; the frozen part takes all.
precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
    What learning computes in; "auto" is bfloat16 on GPUs and CPUs that have instructions for it,
    float16 on other GPUs, and else float32; a head alone learns in float32 on CPUs, and
    predictions there are in float32. The frozen part is computed as by CNNCodes. Weights are
    float32 always; in float16 the loss is scaled. Take "float32" for the same results, but for
    the last digits, on CPUs of every kind.
engine : {"auto", "torch", "openvino"}, default="auto"
    What runs the frozen part.
n_jobs : int, default=None
    Batches of the frozen part that are computed at the same time.
cache : "memory", path, Store or None, default="memory"
    Where the output of the frozen part is kept.
cache_activations : {"auto", "memory", "disk", False}, default="auto"
    Where it is held for the epochs of one fit; False computes it for every batch.
activation_dtype : {"float32", "float16"}, default="float32"
    What it is held in.
checkpoint_dir : path, default=None
    Folder of checkpoints: a fit that was killed goes on from the last epoch. ``{fit}`` in the
    path stands for a hash of the fit, for searches.
keep_checkpoints : int, default=1
    Files that are kept there.
warm_start : bool, default=False
    Whether `fit` goes on from what was learnt before, with rates and all else of training as the
    parameters say now; the network stays as it was built.
distributed : bool, default=False
    Whether processes that accelerate or torchrun started share each batch (the extra
    ``distributed``).
callbacks : list of skorch.callbacks.Callback, default=None
    More callbacks of the net.
net_params : dict, default=None
    More parameters of the net, such as ``{"optimizer__betas": (0.9, 0.95)}``.
bundle_weights : bool, default=False
    Whether a pickle holds the pretrained weights even where they can be had again by name.
random_state : int, RandomState or None, default=None
    Draws the order of batches, random heads, dropout and mixing.
verbose : int, default=0
    1 prints a line for each epoch."""

ATTRIBUTES = """\
net_ : skorch.NeuralNet
    The net; what it takes are activations of the frozen part. Built when it is first asked for
    in an estimator that was loaded.
history_ : skorch.history.History
    Losses, accuracies, rates, seconds and images per second of each epoch; with `early_stopping`
    those that were validated.
layers_ : list of LayerState
    What each stage and the head did: whether it learnt, its rate and its numbers.
n_trainable_parameters_ : int
    Numbers that learnt.
augment_views_ : int
    Views of each photograph that epochs draw from.
n_iter_ : int
    Epochs in `history_`.
best_epoch_ : int
    The best of them, from 1, by what was held out; what is fitted has been trained for so many.
    Only with `early_stopping`.
backbone_ : BackboneInfo
    Name, source, weights, preprocessing and fingerprint of the network.
image_size_ : tuple of int
    Height and width that the network sees.
n_features_in_ : int
    Number of columns, where the input is a table.
feature_names_in_ : ndarray of str
    Their names, where they have names."""

Class = TypeVar("Class", bound=type)


def with_parameters(cls: Class) -> Class:
    """Put the common parameters and attributes into the docstring of a class."""
    doc = cls.__doc__ or ""
    for name, text in (("parameters", PARAMETERS), ("attributes", ATTRIBUTES)):
        doc = doc.replace(f"    {{{name}}}", textwrap.indent(text, "    "))
    cls.__doc__ = doc
    return cls
