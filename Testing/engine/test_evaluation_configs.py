"""The grammar of ``--method`` and the choices of an evaluation."""

from __future__ import annotations

import json

import pytest

from autofuse_engine.errors import InputError
from autofuse_engine.evaluation_configs import EvaluationConfig, MethodSpec, parse_method, parse_methods


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", MethodSpec(name="none", kind="none")),
        ("affine", MethodSpec(name="affine", kind="affine")),
        ("syn@as=ANTs", MethodSpec(name="ANTs", kind="syn")),
        ("refinement", MethodSpec(name="refinement", kind="refinement", refinement_steps=None)),
        (
            "refinement@refine=80,smoothness=0.5",
            MethodSpec(
                name="refinement@refine=80,smoothness=0.5", kind="refinement", refinement_steps=80, smoothness=0.5
            ),
        ),
        (
            "refinement@similarity=mind,as=r",
            MethodSpec(name="r", kind="refinement", refinement_steps=None, similarity="mind"),
        ),
        ("syn@metric=mi", MethodSpec(name="syn@metric=mi", kind="syn", metric="mi")),
        ("a@align=no", MethodSpec(name="a@align=no", kind="model", model="a", label_alignment=False)),
        ("autofuse-brain", MethodSpec(name="autofuse-brain", kind="model", model="autofuse-brain")),
        (
            "/data/runs/äußere 1/best.safetensors@refine=default,passes=2",
            MethodSpec(
                name="best@refine=default,passes=2",
                kind="model",
                model="/data/runs/äußere 1/best.safetensors",
                refinement_steps=None,
                passes=2,
            ),
        ),
        (
            "C:\\me@home\\best.safetensors",
            MethodSpec(name="best", kind="model", model="C:\\me@home\\best.safetensors"),
        ),
        (
            "voxelmorph@weights=/a@b/vxm.safetensors",
            MethodSpec(name="voxelmorph@weights=vxm", kind="voxelmorph", model="/a@b/vxm.safetensors"),
        ),
    ],
)
def test_a_method_is_read_as_it_is_written(text: str, expected: MethodSpec) -> None:
    assert parse_method(text) == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("model-a@refine", "key=value"),
        ("model-a@refine=", "key=value"),
        ("model-a@refine=ten", "ten"),
        ("model-a@refine=-1", "-1"),
        ("model-a@refine=1.5", "1.5"),
        ("model-a@refine=1,refine=2", "twice"),
        ("model-a@smoothness=0", "0.1..10"),
        ("model-a@smoothness=nan", "0.1..10"),
        ("model-a@passes=5", "1..4"),
        ("model-a@strength=5", "strength"),
        ("model-a@refine=3,similarity=ssim", "lncc, mse, mind"),
        ("syn@metric=mind", "cc, mi"),
        ("model-a@align=never", "yes or no"),
        ("elastix@metric=mi", "elastix takes"),
        ("affine@similarity=mind", "affine takes"),
        ("affine@refine=5", "refine"),
        ("syn@weights=a.safetensors", "weights"),
        ("refinement@passes=2", "passes"),
        ("model-a@as= ", "key=value"),
        ("model-a@as=a\nb", "one line"),
    ],
)
def test_a_method_that_cannot_be_read_is_refused_with_the_reason(text: str, part: str) -> None:
    with pytest.raises(InputError, match="NAME@key=value") as caught:
        parse_method(text)
    assert caught.value.code == "method-invalid"
    assert part in caught.value.text


def test_two_methods_of_one_display_name_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        parse_methods(["/a/best.safetensors", "none", "/b/best.safetensors"])
    assert caught.value.code == "method-duplicate"
    assert "'best'" in caught.value.text
    assert "@as=" in caught.value.hint
    names = [method.name for method in parse_methods(["/a/best.safetensors", "/b/best.safetensors@as=other"])]
    assert names == ["best", "other"]


def test_a_configuration_survives_json() -> None:
    methods = parse_methods(["none", "autofuse-brain@refine=default,smoothness=2"])
    config = EvaluationConfig(dataset="Daten ü", methods=methods, pairs=3, split="test", threads=2)
    assert EvaluationConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    "wrong", [{"pairs": 0}, {"all_pairs": True, "pairs": 3}, {"split": "other"}, {"threads": 0}, {"methods": ()}]
)
def test_choices_out_of_range_are_refused(wrong: dict) -> None:
    good = {"dataset": "d", "methods": parse_methods(["none"])}
    with pytest.raises(ValueError, match="received"):
        EvaluationConfig(**{**good, **wrong})
