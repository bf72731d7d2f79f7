"""Parameters are declared once: signatures, documentation and validation have them from there."""

from __future__ import annotations

import inspect
from dataclasses import fields

import pytest
from numpydoc.docscrape import ClassDoc

import sktransfer
from sktransfer import PixelClassifier, _parameters
from sktransfer.compute import ENGINES, PRECISIONS
from sktransfer.finetune._callbacks import SCHEDULES
from sktransfer.finetune._net import OPTIMIZERS
from sktransfer.inputs import RESIZES
from sktransfer.networks import POOLINGS, TEXT_POOLINGS
from sktransfer.testing import check_instances

ESTIMATORS = [*(type(estimator) for estimator, _ in check_instances()), PixelClassifier]
GROUPS = [getattr(_parameters, name) for name in _parameters.__all__]
GROUPS = [group for group in GROUPS if hasattr(group, "__dataclass_fields__")]


def shown(default):
    return f'"{default}"' if isinstance(default, str) else repr(default)


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_signature_documentation_and_validation_have_the_same_parameters(cls):
    signature = inspect.signature(cls).parameters
    documented = ClassDoc(cls)["Parameters"]
    assert [one.name for one in documented] == list(signature)
    for one in documented:
        assert one.type.endswith(f"default={shown(signature[one.name].default)}"), one.name
        assert " ".join(one.desc).strip(), one.name
    assert set(cls._parameter_constraints) == set(signature) == set(cls().get_params())


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_attributes_of_bases_are_documented(cls):
    names = [one.name for one in ClassDoc(cls)["Attributes"]]
    assert names == list(dict.fromkeys(names))
    assert {"n_features_in_", "feature_names_in_"} <= set(names)


def test_defaults_are_no_attributes_of_classes():
    for cls in [*ESTIMATORS, *GROUPS]:
        assert not {one.name for one in fields(cls)} & set(dir(cls))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("resize", RESIZES),
        ("precision", ["auto", *PRECISIONS]),
        ("engine", ENGINES),
        ("optimizer", OPTIMIZERS),
    ],
)
def test_what_is_valid_is_what_is_there(name, values):
    """The declarations spell out what other modules make."""
    # Of places that are cut away nothing can be said.
    whole = [group for group in GROUPS if not issubclass(group, _parameters.DenseInput)]
    declared = [one for group in whole for one in fields(group) if one.name == name]
    assert declared
    for one in declared:
        found = one.metadata["valid"][0].options
        # 8 bits are for codes of images alone, whose `fit` converts the network.
        known = {*values, "int8"} if name == "precision" and "int8" in found else set(values)
        assert found == known
        assert all(f'"{value}"' in one.metadata["type"] for value in known)
    in_8_bits = [group for group in whole if "int8" in
                 _choices(group, name)]  # fmt: skip
    assert not in_8_bits or in_8_bits == [_parameters.BatchCompute]


def _choices(group, name):
    return {value for one in fields(group) if one.name == name
            for value in one.metadata["valid"][0].options}  # fmt: skip


def test_poolings_are_those_of_images_and_of_texts():
    kinds = [_parameters.Codes, _parameters.TextPooling]
    images, texts = (
        next(one.metadata["valid"][0].options for one in fields(kind) if one.name == "pooling")
        for kind in kinds
    )
    assert images | texts == {*POOLINGS, "auto"}
    assert texts == {*TEXT_POOLINGS, "auto"}


def test_the_documentation_of_schedules_names_them():
    (schedule,) = [one for one in fields(_parameters.Training) if one.name == "schedule"]
    assert all(f'"{name}"' in schedule.metadata["type"] for name in SCHEDULES)


def test_what_estimators_share_is_handed_down():
    from sktransfer.selection._strategies import fine_tuner

    given = {"precision": "float32", "crop_pct": 0.5, "resize": "crop", "image_size": 32}
    auto = sktransfer.AutoTransferClassifier(**given, cache=None)
    codes = auto._codes()
    tuner = fine_tuner(codes, 1)
    for estimator in (codes, tuner):
        params = estimator.get_params()
        assert {name: params[name] for name in given} == given
        assert params["cache"] is None
    assert sktransfer.AutoTransferClassifier()._codes().resize == "pad"
