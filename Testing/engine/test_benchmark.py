"""The benchmark compares things that compute the same, fairly, and says so when it cannot compare."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from autofuse_engine import benchmark, cli
from autofuse_engine.benchmark import Part, measure, parts_of

SHAPE = (16, 32, 48)


def test_ours_and_the_plain_implementation_compute_the_same() -> None:
    torch.manual_seed(3)
    _, similarity, integration, segmentation = parts_of(SHAPE)
    for part in (similarity, integration, segmentation):
        assert part.reference is not None
        ours, plain = part.ours(), part.reference()
        assert ours.shape == plain.shape
        torch.testing.assert_close(ours, plain, rtol=2e-3, atol=2e-3 * float(plain.abs().max()))


def test_rounds_take_turns_and_the_first_one_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    clock = iter(range(1000))
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: float(next(clock)))
    part = Part(name="x", ours=lambda: order.append("ours"), reference=lambda: order.append("plain"))
    figure = measure(part, 3)
    assert order == ["ours", "plain"] * 4
    assert (figure.seconds, figure.reference_seconds, figure.ratio) == (1.0, 1.0, 1.0)


def test_a_ratio_above_one_means_that_ours_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: now[0])

    def spend(seconds: float) -> None:
        now[0] += seconds

    figure = measure(Part(name="x", ours=lambda: spend(2.0), reference=lambda: spend(7.0)), 2)
    assert figure.ratio == pytest.approx(3.5)


def test_without_a_source_checkout_only_own_figures_are_given_and_it_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "_REFERENCES", tmp_path / "absent")
    monkeypatch.setattr(benchmark, "QUICK_SHAPE", (16, 32, 16))
    assert cli.main(["benchmark", "--quick", "--repeat", "1", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["references"] is False
    assert len(content["figures"]) == 5
    assert all(figure["seconds"] > 0 and figure["ratio"] is None for figure in content["figures"])
    assert content["peak_memory_gib"] > 0
    assert cli.main(["benchmark", "--quick", "--repeat", "1"]) == 0
    assert "no plain implementation" in capsys.readouterr().out


def test_in_a_source_checkout_each_part_but_the_refinement_has_a_ratio(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "QUICK_SHAPE", (16, 32, 16))
    assert cli.main(["benchmark", "--quick", "--repeat", "1", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["references"] is True
    assert [figure["ratio"] is None for figure in content["figures"]] == [False, False, False, False, True]
