"""Every network of the list, tiny and untrained, registers a pair through the one door: whole and repeatable."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from autofuse_engine import search_memory
from autofuse_engine.checkpoint import save_checkpoint
from autofuse_engine.configs import NETWORKS, NetworkConfig, RegistrationConfig
from autofuse_engine.data.synthetic import SyntheticPair, make_pair
from autofuse_engine.job_files import save_result
from autofuse_engine.model_card import ModelCard, Preprocessing
from autofuse_engine.networks.build import build_network
from autofuse_engine.networks.heads import FieldHead
from autofuse_engine.registration import ModelCache, RegistrationResult, register


@pytest.fixture(scope="module")
def pair() -> SyntheticPair:
    return make_pair(2, (28, 40, 34))


def saved(config: NetworkConfig, folder: Path) -> str:
    """A model of that architecture whose field has a spread of about a voxel."""
    torch.manual_seed(0)
    network = build_network(config)
    images = torch.rand(2, 1, 1, 48, 32, 32)
    with torch.no_grad():
        head = next(module for module in network.modules() if isinstance(module, FieldHead))
        head.mean.weight.normal_()
        spread = float(network.eval()(*images).velocity_mean.std())
        head.mean.weight.mul_(0.6 / spread)
    card = ModelCard(name="tiny", network=config, preprocessing=Preprocessing(spacing_mm=(8.0, 8.0, 8.0)))
    return str(save_checkpoint(network, card, folder))


def run(pair: SyntheticPair, model: str, cache: ModelCache | None = None, **fields: object) -> RegistrationResult:
    config = RegistrationConfig(model=model, initial="centers", **{"refinement_steps": 0, **fields})  # type: ignore[arg-type]
    return register(pair.fixed, pair.moving, config, models=cache)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_registers_and_gives_what_its_architecture_promises(name: str, pair: SyntheticPair, tmp_path: Path) -> None:
    config = replace(NETWORKS[name], channels=4)
    first = run(pair, saved(config, tmp_path), samples=2)
    assert first.displacement_magnitude.array.max() > 2.0
    assert np.isfinite(first.warped.array).all()
    has_gates = config.kind in ("autofuse", "autofuse-trans") and config.fusion == "gate"
    assert len(first.report["gate_means"]) == (7 if has_gates else 0)
    assert (first.uncertainty is not None) is (config.field == "velocity")
    assert (first.regularity_weight is not None) is config.varying_regularity
    assert (first.fixed_segmentation is not None) is (config.classes > 0)
    json.dumps(first.report)


@pytest.mark.parametrize("name", ["autofuse-trans-semi", "autofuse-conditional", "voxelmorph-1"])
def test_two_runs_are_equal_bit_for_bit(name: str, pair: SyntheticPair, tmp_path: Path) -> None:
    # That predictions are, for every network, is tested in networks/test_variants.py.
    model = saved(replace(NETWORKS[name], channels=4), tmp_path)
    first, again = run(pair, model), run(pair, model)
    assert np.array_equal(first.warped.array, again.warped.array)
    assert np.array_equal(first.jacobian.array, again.jacobian.array)


@pytest.mark.parametrize("name", ["autofuse-disp", "voxelmorph-2"])
def test_refinement_improves_on_a_poor_displacement_and_the_inverse_undoes_both(
    name: str, pair: SyntheticPair, tmp_path: Path
) -> None:
    model = saved(replace(NETWORKS[name], channels=4), tmp_path)
    poor, refined = run(pair, model), run(pair, model, refinement_steps=8)
    assert refined.report["metrics"]["after"]["ncc"] > poor.report["metrics"]["after"]["ncc"] + 0.01
    assert not np.array_equal(poor.warped.array, refined.warped.array)
    assert len(refined.report["refinement"]["levels"]) >= 1
    if refined.report["folding_count"] == 0:
        assert refined.report["inverse_consistency_mm"]["mean"] < 0.5


def test_smoothness_sets_the_code_of_a_conditional_model_and_no_other(pair: SyntheticPair, tmp_path: Path) -> None:
    for name, changes in (("autofuse-conditional", True), ("autofuse-varying", False)):
        model, cache = saved(replace(NETWORKS[name], channels=4), tmp_path / name), ModelCache()
        usual, soft = (run(pair, model, cache, smoothness=factor) for factor in (1.0, 0.1))
        assert np.array_equal(usual.warped.array, soft.warped.array) is not changes


def test_the_learned_weight_is_a_file_of_the_result(pair: SyntheticPair, tmp_path: Path) -> None:
    model = saved(replace(NETWORKS["autofuse-varying"], channels=4), tmp_path)
    result = run(pair, model)
    weight = result.regularity_weight
    assert weight is not None
    assert weight.same_grid(pair.fixed)
    assert 0 < weight.array.min() < weight.array.max() <= 1
    save_result(result, pair.moving, tmp_path, "h5", lambda share: None)
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "regularity_weight.nii.gz")))
    np.testing.assert_allclose(image, weight.array, atol=1e-6)


def test_a_transformer_is_asked_for_more_memory_than_a_convolutional_network(
    pair: SyntheticPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 1,000 bytes a voxel are enough for refinement and convolutions, see Testing/benchmarks/benchmark_kinds.py.
    small = RegistrationConfig(initial="centers", refinement_steps=0)
    for name, enough in (("autofuse", True), ("autofuse-trans", False)):
        config = replace(small, model=saved(replace(NETWORKS[name], channels=4), tmp_path / name))
        with monkeypatch.context() as context:
            context.setattr(search_memory, "free_memory_bytes", lambda device, free=1000 * 32**3: free)
            report = register(pair.fixed, pair.moving, config).report
        assert (report["working_grid"]["shape"] == [32, 32, 32]) is enough
        assert ("less-memory" not in {warning["code"] for warning in report["warnings"]}) is enough
