"""Networks with real weights at hand, and every strategy that is tried with each."""

from sktransfer import CNNCodes
from sktransfer.selection._strategies import probe_pipeline, tune_up_to

DINOV2 = "timm:vit_small_patch14_reg4_dinov2"
RANDOM = "random weights"


def networks(args, params):
    """Every network by name; random weights are the control."""
    common = {**params, "cache": args.cache, "image_size": args.image_size}
    files = dict(pair.split("=", 1) for pair in args.weights)
    found = {f"lite{i}": CNNCodes(f"efficientnet_lite{i}", **common) for i in range(3)}
    if "mobilenet_v2" in files:
        found["mobilenet_v2"] = CNNCodes("mobilenet_v2", weights=files["mobilenet_v2"], **common)
    if "dinov2" in files:  # patches of 14 pixels
        size = args.image_size // 14 * 14
        own = {"weights": files["dinov2"], "preprocessing": "default", "image_size": size}
        found["DINOv2 ViT-S"] = CNNCodes(DINOV2, **{**common, **own})
    found[RANDOM] = CNNCodes("efficientnet_lite0", weights=None, **common)
    return {name: found[name] for name in args.networks or found}


def strategies(codes, advice, *, partly, wholly):
    """Strategies by name, whatever was advised; the layer to end with by the probes' means."""
    scores = {name: mean for name, mean, _ in advice.layer_scores}
    *earlier, last = scores
    found = {"last layer": probe_pipeline(codes, layer=last)}
    for name in earlier[-3:]:
        found[f"layer {name}"] = probe_pipeline(codes, layer=name)
    found["stacked"] = probe_pipeline(codes, layer=[earlier[-1], last])
    if partly:
        found["fine-tune last"] = tune_up_to(codes, last)
        found["fine-tune earlier"] = tune_up_to(codes, max(earlier, key=scores.get))
    if wholly:
        found["fine-tune all"] = tune_up_to(codes, last, "all")
        found["fine-tune all earlier"] = tune_up_to(codes, max(earlier, key=scores.get), "all")
    return found


def member_names(advice):
    """Which of the strategies vote, of an advice to vote."""
    probe = advice.layer
    last = advice.layer_scores[-1][0]
    known = {
        "probe": "last layer" if probe == last else f"layer {probe}",
        "fine_tune_last": "fine-tune last",
        "fine_tune_earlier": "fine-tune earlier",
    }
    names = []
    for name, estimator in advice.estimator.estimators:
        if name == "fine_tune_all":
            known[name] = f"fine-tune all{'' if estimator.layer is None else ' earlier'}"
        names.append(known[name])
    return names


def advised_name(advice):
    """Which of the strategies the advice is; of probes there may be others."""
    if advice.strategy == "vote":
        return "vote"
    if advice.strategy != "probe":
        earlier = {"fine-tune last": "fine-tune earlier", "fine-tune all": "fine-tune all earlier"}
        return advice.strategy if advice.estimator.layer is None else earlier[advice.strategy]
    return "last layer" if advice.layer == advice.layer_scores[-1][0] else f"layer {advice.layer}"
