"""scikit-learn's own checks, and ours in the same form, swept over every estimator."""

from __future__ import annotations

import copy
import inspect

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from sktransfer.testing import check_instances

INSTANCES = check_instances()
IDS = [type(estimator).__name__ for estimator, _ in INSTANCES]
TRANSFORMERS = [instance for instance in INSTANCES if hasattr(instance[0], "transform")]
OF_TRANSFORMERS = {
    "argvalues": TRANSFORMERS,
    "ids": [type(estimator).__name__ for estimator, _ in TRANSFORMERS],
}
_IMAGES = [one for one in TRANSFORMERS if "image_shape" in one[0].get_params()]
OF_IMAGES = {"argvalues": _IMAGES, "ids": [type(estimator).__name__ for estimator, _ in _IMAGES]}


def expected_failures(estimator):
    for other, failures in INSTANCES:
        if other is estimator:
            return failures
    return {}


QUICK = [estimator for estimator, _ in INSTANCES if not hasattr(estimator, "strategies")]


@parametrize_with_checks(QUICK, expected_failed_checks=expected_failures)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.slow  # each fit tries several strategies
@parametrize_with_checks([one for one, _ in INSTANCES if hasattr(one, "strategies")])
def test_scikit_learn_checks_of_trials(estimator, check):
    check(estimator)


# The same with a stage that is trained; smaller images hold too little to be told apart.
@pytest.mark.slow
@parametrize_with_checks(
    [
        # The rows of the checks are images of one colour, whose codes hardly differ: what starts
        # from a probe of them is steep, and diverges at the usual rate.
        clone(estimator).set_params(trainable=1, lr=1e-5)
        for estimator, _ in INSTANCES
        if is_classifier(estimator) and "trainable" in estimator.get_params()
    ],
    expected_failed_checks=lambda estimator: INSTANCES[1][1],
)
def test_scikit_learn_checks_with_a_stage_that_learns(estimator, check):
    check(estimator)


def fitted(estimator, X):
    """Transformers look at `y` or do not."""
    return estimator.fit(X, np.arange(len(X)) % 2)


@pytest.mark.parametrize(("estimator", "failures"), INSTANCES, ids=IDS)
def test_the_suite_runs_whole(estimator, failures):
    """At least 45 checks, 50 of classifiers, at most 3 expected to fail, each with its reason."""
    names = [
        getattr(check, "func", check).__name__ for _, check in estimator_checks_generator(estimator)
    ]
    # Those on other array libraries are skipped unless these are installed.
    run = [name for name in names if name not in failures and "array_api" not in name]
    assert len(run) >= (50 if is_classifier(estimator) else 45)
    assert len(failures) <= 3
    assert all(failures.values())


def run_check(name, estimator):
    check = getattr(estimator_checks, name, None)
    if check is None:
        pytest.skip(f"this scikit-learn has no {name}")
    check(type(estimator).__name__, clone(estimator))


@pytest.mark.parametrize(("estimator", "_"), INSTANCES, ids=IDS)
@pytest.mark.parametrize(
    "name",
    [
        "check_param_validation",
        "check_dataframe_column_names_consistency",
        "check_n_features_in_after_fitting",
        "check_estimators_partial_fit_n_features",
    ],
)
def test_checks_outside_the_default_suite(estimator, _, name):
    run_check(name, estimator)


@pytest.mark.parametrize(("estimator", "_"), **OF_TRANSFORMERS)
@pytest.mark.parametrize(
    "name",
    [
        "check_set_output_transform",
        "check_set_output_transform_pandas",
        "check_set_output_transform_polars",
        "check_global_set_output_transform_polars",
        "check_global_output_transform_pandas",
        "check_get_feature_names_out_error",
        "check_transformer_get_feature_names_out",
        "check_transformer_get_feature_names_out_pandas",
    ],
)
def test_checks_of_transformers_outside_the_default_suite(estimator, _, name):
    run_check(name, estimator)


def layouts(images: np.ndarray) -> dict[str, object]:
    """The same images in every form that an array can take."""
    torch = pytest.importorskip("torch")
    n, height, width, _ = images.shape
    return {
        "nhwc": images,
        "nchw": np.ascontiguousarray(images.transpose(0, 3, 1, 2)),
        "list": list(images),
        "fortran": np.asfortranarray(images),
        "int64": images.astype(np.int64),
        "float 0 to 1": images / 255,
        "float32 0 to 255": images.astype(np.float32),
        "torch": torch.from_numpy(images.transpose(0, 3, 1, 2).copy()),
        "rows": images.reshape(n, height * width * 3),
        "frame": pd.DataFrame(images.reshape(n, -1)),
    }


@pytest.mark.parametrize(("estimator", "_"), **OF_IMAGES)
def test_images_in_every_layout_give_equal_codes(estimator, _, sample):
    estimator = clone(estimator).set_params(image_shape=None, value_range="auto", cache=None)
    images = sample.data[:4]
    expected = fitted(estimator, images).transform(images)
    for name, X in layouts(images).items():
        found = fitted(estimator, X).transform(X)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(("estimator", "_"), **OF_IMAGES)
def test_transform_changes_nothing_in_the_model(estimator, _, sample):

    estimator = clone(estimator).set_params(image_shape=None, value_range="auto", cache=None)
    fitted(estimator, sample.data[:2])
    network = estimator._load_network().module
    before = copy.deepcopy(network.state_dict())
    facts = {key: repr(value) for key, value in vars(estimator).items()}
    estimator.transform(sample.data[:3])
    estimator.transform(sample.data[3:9])
    assert {key: repr(value) for key, value in vars(estimator).items()} == facts
    assert estimator._load_network().module is network
    assert not any(module.training for module in network.modules())
    for key, value in network.state_dict().items():
        assert value.equal(before[key]), key


@pytest.mark.parametrize(("estimator", "_"), **OF_IMAGES)
def test_one_row_equals_its_row_in_any_batch(estimator, _, sample):
    estimator = clone(estimator).set_params(
        image_shape=None, value_range="auto", cache=None, image_size=96
    )
    images = sample.data[:11]
    whole = fitted(estimator, images).transform(images)
    for size in (1, 2, 7):
        parts = [estimator.transform(images[i : i + size]) for i in range(0, 11, size)]
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("estimator", "_"), INSTANCES, ids=IDS)
def test_constructor_only_stores_and_is_keyword_only(estimator, _):
    parameters = list(inspect.signature(type(estimator)).parameters.values())
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters[1:])
    given = {p.name: object() for p in parameters}
    assert vars(type(estimator)(**given)) == given
