"""The four scenes of the tutorials, told by evidence, and what each calls for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ._curve import LearningCurve
from ._layers import SURE, LayerScore, is_better
from ._strategies import LAST_STAGES, probe_pipeline, tune_up_to
from ._study import Study

__all__ = ["MANY", "choose_strategy", "reasons_for", "scene_of"]

# Photographs, and photographs of the middle class, from which on the whole network, or its last
# stages, are fine-tuned: rules of thumb, which AutoTransferClassifier puts to the test.
MANY = (500, 50)
SOME = (100, 5)
# Where the probe errs less often than this there is little left to win.
_SOLVED = 0.01


def scene_of(study: Study) -> str:
    """One of "few" or "many", "and", "similar" or "dissimilar"."""
    many = "many" if _at_least(study, MANY) else "few"
    return f"{many} and {'similar' if study.similar else 'dissimilar'}"


def _at_least(study: Study, bound: tuple[int, int]) -> bool:
    sizes = study.sizes
    return bool(sum(sizes) >= bound[0] and np.median(sizes) >= bound[1])


def choose_strategy(scene: str, study: Study, fine_tune: bool | str) -> tuple[str, LayerScore, Any]:
    """A name, the layer that the network ends with, and an estimator that is not fitted."""
    solved = study.best.mean >= 1 - _SOLVED
    enough = _at_least(study, SOME) or scene.startswith("many")
    if fine_tune is False or (fine_tune == "auto" and (solved or not enough)):
        layer = None if study.best is study.last else study.best.name
        return "probe", study.best, probe_pipeline(study.codes, layer=layer)
    if scene.startswith("many"):
        return "fine-tune all", study.best, tune_up_to(study.codes, study.best.name, "all")
    return "fine-tune last", study.to_tune, tune_up_to(study.codes, study.to_tune.name)


def reasons_for(
    scene: str, strategy: str, study: Study, curve: LearningCurve, fine_tune: bool | str
) -> Iterator[str]:
    """Plain sentences, each with its figures."""
    seen, sizes = study.seen, study.sizes
    yield (
        f"{sum(sizes):,} photographs of {len(sizes)} classes, {min(sizes):,} to {max(sizes):,} of "
        f"each: that is {scene.split()[0]} (many begins at {MANY[0]:,} and {MANY[1]} of the middle "
        "class)."
    )
    yield _about_layers(study.scores, study.best)
    if seen.probabilities is not None:
        yield _about_outputs(*study.sureness)
    if seen.distance is not None:
        yield (
            f"Mean codes are {seen.distance:.2f} standard deviations from those of the photographs "
            "the network was trained on."
        )
    if study.framings:
        yield _about_framings(study)
    yield from _about_strategy(strategy, study, fine_tune)
    yield _about_more(curve)


def _about_framings(study: Study) -> str:
    scores = {name: score.mean for name, score in study.framings.items()}
    told = ", ".join(f"{name} {mean:.1%}" for name, mean in scores.items())
    best, resize = max(scores, key=lambda name: scores[name]), study.codes.resize
    taken = "the best of several is a little higher than what is to be expected"
    if scores[best] > scores[resize]:
        taken = f"{best} is not likely to be better than {resize}, which stays, but may be tried"
    tall = f"{study.look.tall_share:.0%} of the photographs are not square"
    return f"{tall}; framed by {told} ({taken})."


def _about_layers(scores: list[LayerScore], best: LayerScore) -> str:
    last = scores[-1]
    if best is last:
        others = max((s for s in scores[:-1]), key=lambda s: s.mean, default=None)
        rest = "" if others is None else f"; the best earlier one, {others.name}, {others.mean:.1%}"
        return (
            f"The last layer tells {last.mean:.1%}{rest}: none is likely to be better, so the "
            "photographs are like those the network was trained on."
        )
    told = f"{best.name} tells {best.mean:.1%} and the last layer {last.mean:.1%}"
    if is_better(best, last, SURE):
        return (
            f"{told}, a difference beyond chance: the photographs are unlike those the network was "
            "trained on."
        )
    return (
        f"{told}: likely the better layer, but not surely, so that the photographs count as like "
        "those the network was trained on."
    )


def _about_outputs(confidence: float, entropy: float) -> str:
    return (
        f"The network's own classifier is {confidence:.0%} sure of its first guess on average; "
        f"its entropy is {entropy:.0%} of the largest possible."
    )


def _about_strategy(strategy: str, study: Study, fine_tune: bool | str) -> Iterator[str]:
    best, last = study.best, study.last
    if strategy == "fine-tune all":
        yield (
            "Fine-tuning of all layers from the pretrained weights is worth its time with so many "
            "photographs; it begins from a linear probe and the pretrained layers learn gently."
        )
        if best is not last:
            yield f"It ends with {best.name}, which tells more than what is behind it."
    elif strategy == "fine-tune last":
        yield _about_last_stages(study)
        if (end := study.to_tune) is not last:
            yield (
                f"What is fine-tuned ends with {end.name} ({end.mean:.1%} by a probe, the last "
                f"layer {last.mean:.1%}): what learns makes an earlier layer as specific."
            )
    elif best.mean >= 1 - _SOLVED:
        yield f"A linear probe errs in {1 - best.mean:.1%} only: fine-tuning has little to win."
    elif fine_tune is False:
        yield "A linear model on the codes, since fine_tune=False."
    else:
        where = "the codes" if best is last else "the earlier layer"
        yield f"A linear model on {where}: so few photographs do not suffice to fine-tune."


def _about_last_stages(study: Study) -> str:
    enough = f"{SOME[0]} photographs and {SOME[1]} of the middle class"
    if not _at_least(study, SOME):
        return (
            f"{LAST_STAGES} stages learn gently, from a linear probe, since fine_tune=True; of so "
            f"few photographs ({enough} would be enough) the probe alone may be as good."
        )
    return (
        f"Too few to fine-tune all layers, but enough ({enough}) for {LAST_STAGES} stages to learn "
        "gently, from a linear probe, which has been better than the probe alone on such numbers. "
        "For a model in seconds, fine_tune=False gives the probe."
    )


def _about_more(curve: LearningCurve) -> str:
    now, size = curve.means[-1], curve.sizes[-1]
    twice = curve.expected(2 * size)
    if np.isnan(twice) or twice < now:
        return "The learning curve is too rough or flat to say what more photographs would bring."
    verdict = "more photographs would help" if twice - now > 0.01 else "more would help little"
    return (
        f"Learning from {size:,} photographs the probe tells {now:.1%}; the curve leads to about "
        f"{twice:.1%} with twice as many: {verdict}."
    )
