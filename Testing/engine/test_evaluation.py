"""An evaluation keeps what it has, goes on where it stopped, and judges every method alike."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autofuse_engine import evaluation
from autofuse_engine.checkpoint import save_checkpoint
from autofuse_engine.configs import NetworkConfig
from autofuse_engine.data.transform import MatrixStep, SpatialTransform
from autofuse_engine.errors import AutoFuseError, CancelledError
from autofuse_engine.evaluation import evaluate
from autofuse_engine.evaluation_configs import EvaluationConfig, MethodSpec, parse_methods
from autofuse_engine.evaluation_data import open_data
from autofuse_engine.evaluation_folder import ALIGNMENTS, CONFIG, EvaluationFolder
from autofuse_engine.evaluation_methods import EvaluationPair, Registered
from autofuse_engine.evaluation_ours import MethodContext
from autofuse_engine.evaluation_rows import ROWS, TABLE, PairRow, read_rows
from autofuse_engine.events import Event, Progress, Warning
from autofuse_engine.model_card import ModelCard, Preprocessing
from autofuse_engine.networks.build import build_network
from Testing.engine.data.dataset_folder import plain_folder
from Testing.engine.data.prepared_folder import make_prepared


class Peer:
    """A method that takes the initial alignment, and fails for the fixed cases that it is told to."""

    def __init__(self, name: str, failing: Sequence[str] = ()) -> None:
        self.name, self.failing = name, tuple(failing)
        self.seen: list[EvaluationPair] = []

    def register(self, pair: EvaluationPair) -> Registered:
        self.seen.append(pair)
        if pair.fixed.name in self.failing:
            raise RuntimeError("no convergence\nafter 3 steps")
        forward = SpatialTransform(steps=(MatrixStep(matrix_ras=pair.initial_ras),))
        gates = ({"stage": 1, "level": 0, "pair_weight": 0.25},)
        return Registered(forward=forward, inverse=None, seconds=1.5, gate_means=gates, peak_memory_gib=0.5)


def wanted(dataset: Path, *methods: str, **more: Any) -> EvaluationConfig:
    return EvaluationConfig(dataset=str(dataset), methods=parse_methods(methods), device="cpu", **more)


def run(config: EvaluationConfig, out: Path, peer: Peer | None = None, **more: Any) -> list[PairRow]:
    return evaluate(config, out, make_peer=None if peer is None else lambda spec: peer, **more)


def without_measurements(rows: Sequence[PairRow]) -> list[dict[str, Any]]:
    free = ("seconds", "seconds_alignment", "peak_memory_gib")
    return [{name: value for name, value in asdict(row).items() if name not in free} for row in rows]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prepared(tmp_path_factory.mktemp("vorbereitet ä") / "set", train=1, validation=3).folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "Ergebnisse ö 1"


def save_model(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    config = NetworkConfig(channels=2)
    network = build_network(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    torch.nn.init.normal_(network.head.mean.weight, std=0.01)  # some millimetres in all, so that the field stays small
    torch.nn.init.zeros_(network.head.mean.bias)
    card = ModelCard(name="tiny", network=config, preprocessing=Preprocessing(spacing_mm=(3.0, 2.5, 4.0)))
    return save_checkpoint(network, card, folder)


class TestRows:
    def test_each_method_gets_a_row_of_each_pair_with_all_its_figures(self, prepared: Path, out: Path) -> None:
        peer = Peer("other")
        rows = run(wanted(prepared, "none", "syn@as=other", pairs=2), out, peer)
        assert [row.method for row in rows] == ["none", "other"] * 2
        assert rows == read_rows(out)
        row = rows[1]
        assert (row.seconds, row.peak_memory_gib, row.seconds_alignment) == (1.5, 0.5, None)
        assert row.gate_means == ({"stage": 1, "level": 0, "pair_weight": 0.25},)
        assert row.dice == row.dice_before == rows[0].dice
        assert set(row.dice_per_label) == {"1", "2"}
        assert (row.inverse_mean_mm, row.folding_count, row.error) == (None, 0, None)
        assert (out / TABLE).is_file()

    def test_all_methods_but_none_start_from_one_alignment_that_is_kept(self, tmp_path: Path, out: Path) -> None:
        plain_folder(tmp_path / "Eier", count=2)
        peer = Peer("other")
        methods = ("none", "affine", "refinement@refine=0", "syn@as=other")
        none, affine, still, other = run(wanted(tmp_path / "Eier", *methods, pairs=1), out, peer)
        assert none.seconds_alignment is None
        assert affine.seconds_alignment == still.seconds_alignment == other.seconds_alignment
        assert none.dice == none.dice_before != affine.dice == affine.dice_before == still.dice == other.dice
        line = json.loads((out / ALIGNMENTS).read_text(encoding="utf-8"))
        assert np.array_equal(line["moving_from_fixed_ras"], peer.seen[0].initial_ras)
        later = Peer("later")
        run(wanted(tmp_path / "Eier", "syn@as=later", pairs=1), out, later)
        assert np.array_equal(later.seen[0].initial_ras, peer.seen[0].initial_ras)
        assert len((out / ALIGNMENTS).read_text(encoding="utf-8").splitlines()) == 1

    def test_a_peer_is_asked_once_and_refined_from_what_it_found(self, tmp_path: Path, out: Path) -> None:
        plain_folder(tmp_path / "Eier", count=2)
        peer = Peer("peer")
        methods = ("affine", "syn", "syn@refine=0,as=again", "syn@refine=4,as=more", "syn@refine=4,smoothness=2",
                   "syn@refine=4,similarity=mind")  # fmt: skip
        affine, alone, again, more, stiff, mind = run(wanted(tmp_path / "Eier", *methods, pairs=1), out, peer)
        assert len(peer.seen) == 1
        assert affine.dice == alone.dice == again.dice != more.dice
        assert stiff.ncc not in (more.ncc, affine.ncc)
        assert mind.ncc not in (more.ncc, stiff.ncc, affine.ncc)
        assert alone.seconds == 1.5 < more.seconds
        assert (alone.inverse_mean_mm, more.folding_count) == (None, 0)
        assert more.inverse_mean_mm is not None
        assert more.dice_before == affine.dice
        assert more.peak_memory_gib is None or more.peak_memory_gib >= 0.5
        run(wanted(tmp_path / "Eier", "syn@metric=mi", "syn@metric=mi,refine=1", pairs=1), out, peer)
        assert len(peer.seen) == 2, "another metric is another method"
        for option in ("smoothness=2", "similarity=mind"):
            with pytest.raises(AutoFuseError, match=option.partition("=")[0]):
                run(wanted(tmp_path / "Eier", f"syn@{option},as=vain", pairs=1), out, peer)

    def test_the_refinement_maximises_the_similarity_that_is_asked_for(self, prepared: Path, out: Path) -> None:
        methods = [f"refinement@refine=2,similarity={name}" for name in ("lncc", "mse", "mind")]
        rows = run(wanted(prepared, *methods, pairs=1), out)
        assert len({row.ncc for row in rows}) == 3

    def test_without_labels_dice_is_unknown(self, tmp_path: Path, out: Path) -> None:
        make_prepared(tmp_path / "set", train=0, validation=2, labelled=0)
        (row,) = run(wanted(tmp_path / "set", "none", pairs=1), out)
        assert (row.dice, row.dice_before, dict(row.dice_per_label)) == (None, None, {})
        assert row.ncc is not None

    def test_two_runs_on_a_cpu_give_equal_rows(self, tmp_path: Path, out: Path) -> None:
        plain_folder(tmp_path / "Eier", count=2)
        model = save_model(tmp_path, seed=1)
        methods = ("none", "affine", "refinement@refine=2", str(model), f"{model}@refine=1,as=both")
        both = [run(wanted(tmp_path / "Eier", *methods, pairs=1), folder) for folder in (out, tmp_path / "again")]
        assert without_measurements(both[0]) == without_measurements(both[1])
        assert not [row.error for row in both[0] if row.error]
        assert len(both[0][3].gate_means) > 1
        assert both[0][3].inverse_mean_mm is not None
        assert len({row.ncc for row in both[0]}) == 5


class TestGoingOn:
    def test_rows_that_are_there_are_not_computed_again(self, prepared: Path, out: Path) -> None:
        peer = Peer("other")
        config = wanted(prepared, "syn@as=other", pairs=2)
        first = run(config, out, peer)
        assert run(config, out, peer) == first
        assert len(peer.seen) == 2
        more = run(replace(config, pairs=3, methods=parse_methods(["syn@as=other", "none"])), out, peer)
        assert len(peer.seen) == 3
        assert [row.method for row in more] == ["other", "none"] * 3
        facts = json.loads((out / CONFIG).read_text(encoding="utf-8"))
        assert [method["name"] for method in facts["methods"]] == ["other", "none"]
        assert [len(facts[name]) for name in ("pairs", "runs")] == [3, 3]

    def test_a_torn_row_is_computed_again(self, prepared: Path, out: Path) -> None:
        peer = Peer("other")
        config = wanted(prepared, "syn@as=other", pairs=2)
        rows = run(config, out, peer)
        text = (out / ROWS).read_bytes()
        (out / ROWS).write_bytes(text[:-40])
        assert run(config, out, peer) == rows
        assert len(peer.seen) == 3

    def test_cancelled_it_says_how_much_there_is_and_goes_on_later(self, prepared: Path, out: Path) -> None:
        peer = Peer("other")
        config = wanted(prepared, "none", "syn@as=other", pairs=2)
        with pytest.raises(CancelledError, match=r"3 of 4 rows are in .*The same command goes on"):
            run(config, out, peer, cancelled=lambda: len(read_rows(out)) == 3)
        assert len((out / TABLE).read_text(encoding="utf-8").splitlines()) == 4
        assert len(run(config, out, peer)) == 4
        assert len(peer.seen) == 2

    def test_progress_rises_and_names_pair_and_method(self, prepared: Path, out: Path) -> None:
        events: list[Event] = []
        run(wanted(prepared, "none", "affine", pairs=2), out, report=events.append)
        told = [event for event in events if isinstance(event, Progress)]
        fractions = [event.fraction for event in told]
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1.0
        assert "pair 2 of 2: affine" in [event.stage for event in told]

    def test_what_models_say_of_an_image_is_told_once(
        self, prepared: Path, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def chatty(spec: MethodSpec, context: MethodContext) -> Peer:
            peer = Peer(spec.name)
            register = peer.register

            def telling(pair: EvaluationPair) -> Registered:
                for code in ("model-size-unusual", "less-memory"):
                    context.report(Warning(code=code, text="Some words."))
                return register(pair)

            monkeypatch.setattr(peer, "register", telling)
            return peer

        monkeypatch.setattr(evaluation, "our_method", chatty)
        events: list[Event] = []
        run(wanted(prepared, "none", "affine", pairs=2), out, report=events.append)
        codes = [event.code for event in events if isinstance(event, Warning)]
        assert codes == ["model-size-unusual", *["less-memory"] * 4]


class TestFailures:
    def test_a_failed_pair_is_a_row_with_the_reason_and_the_others_go_on(self, prepared: Path, out: Path) -> None:
        events: list[Event] = []
        config = wanted(prepared, "syn@as=other", "none")
        failing = read_first_fixed(config)
        rows = run(config, out, Peer("other", failing=[failing]), report=events.append)
        failed = [row for row in rows if row.error is not None]
        assert len(rows) == 12
        assert {(row.method, row.fixed) for row in failed} == {("other", failing)}
        assert failed[0].error == "RuntimeError: no convergence"
        assert (failed[0].dice, failed[0].ncc) == (None, None)
        assert [event.code for event in events if isinstance(event, Warning)] == ["method-failed"] * 2

    def test_failed_rows_are_tried_again_only_when_asked(self, prepared: Path, out: Path) -> None:
        config = wanted(prepared, "syn@as=other", pairs=2)
        run(config, out, Peer("other", failing=[read_first_fixed(config)]))
        good = Peer("other")
        assert any(row.error for row in run(config, out, good))
        assert not good.seen
        assert not any(row.error for row in run(replace(config, retry_failed=True), out, good))
        assert good.seen
        assert len(read_rows(out)) == 2

    def test_an_image_that_cannot_be_read_fails_its_pairs_alone(self, tmp_path: Path, out: Path) -> None:
        plain_folder(tmp_path / "Eier", count=3)
        (tmp_path / "Eier" / "images" / "egg 2.nii.gz").write_bytes(b"not an image")
        rows = run(wanted(tmp_path / "Eier", "none", "syn@as=other"), out, Peer("other"))
        assert {"egg 2" in (row.fixed, row.moving) for row in rows if row.error} == {True}
        assert len([row for row in rows if row.error is None]) == 4

    def test_an_unknown_model_and_an_option_without_effect_are_told_before_any_pair(
        self, prepared: Path, tmp_path: Path, out: Path
    ) -> None:
        model = save_model(tmp_path, seed=1)
        for method, code in (
            ("absent-model", "model-not-found"),
            (str(tmp_path / "absent.safetensors"), "model-not-found"),
            (f"{model}@smoothness=2", "method-invalid"),
            (f"{model}@similarity=mind", "method-invalid"),
            ("elastix", "method-invalid"),
        ):
            with pytest.raises(AutoFuseError) as caught:
                run(wanted(prepared, "none", method), out)
            assert caught.value.code == code
            assert caught.value.hint
        assert not out.exists()


class TestTheFolder:
    def refused(self, config: EvaluationConfig, out: Path) -> AutoFuseError:
        with pytest.raises(AutoFuseError) as caught:
            run(config, out, Peer("other"))
        assert caught.value.hint
        return caught.value

    def test_results_of_other_data_or_another_seed_are_not_mixed(
        self, prepared: Path, tmp_path: Path, out: Path
    ) -> None:
        config = wanted(prepared, "none", pairs=1)
        run(config, out)
        other = make_prepared(tmp_path / "other", train=1, validation=3, seed=7).folder
        plain = plain_folder(tmp_path / "plain", count=2)
        for changed in (replace(config, dataset=str(other)), replace(config, dataset=str(plain))):
            error = self.refused(changed, out)
            assert error.code == "evaluation-differs"
            assert str(prepared) in error.text
        assert self.refused(replace(config, seed=1), out).code == "evaluation-differs"
        moved = shutil.copytree(prepared, tmp_path / "moved")
        assert run(replace(config, dataset=str(moved)), out)[0].error is None

    def test_a_name_stays_with_its_method_and_its_weights(self, prepared: Path, tmp_path: Path, out: Path) -> None:
        model = save_model(tmp_path, seed=1)
        config = wanted(prepared, str(model), pairs=1)
        run(config, out)
        refined = self.refused(wanted(prepared, f"{model}@refine=1,as=tiny", pairs=1), out)
        assert refined.code == "evaluation-differs"
        known = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
        del known["methods"][0]["label_weight"]  # as a version before wrote it
        (out / "evaluation.json").write_text(json.dumps(known), encoding="utf-8")
        assert run(config, out)[0].error is None
        save_model(tmp_path, seed=2)
        assert "other weights" in self.refused(config, out).text

    def test_a_folder_of_something_else_is_left_alone(self, prepared: Path, out: Path) -> None:
        out.mkdir()
        (out / "pairs.csv").write_text("mine", encoding="utf-8")
        assert self.refused(wanted(prepared, "none"), out).code == "output-not-empty"
        assert [path.name for path in out.iterdir()] == ["pairs.csv"]

    def test_two_processes_do_not_write_to_one_folder(self, prepared: Path, out: Path) -> None:
        with EvaluationFolder(out):
            error = self.refused(wanted(prepared, "none"), out)
        assert error.code == "evaluation-in-use"
        assert "training" not in error.text + error.hint

    @pytest.mark.parametrize("content", ["{", "[]", '{"format": "other"}', "{}"])
    def test_a_damaged_record_is_one_error(self, prepared: Path, out: Path, content: str) -> None:
        run(wanted(prepared, "none", pairs=1), out)
        (out / CONFIG).write_text(content, encoding="utf-8")
        assert self.refused(wanted(prepared, "none"), out).code == "evaluation-invalid"

    def test_rows_of_another_number_of_threads_come_with_a_warning(self, prepared: Path, out: Path) -> None:
        threads = torch.get_num_threads()
        run(wanted(prepared, "none", pairs=1), out)
        events: list[Event] = []
        run(wanted(prepared, "none", pairs=1, threads=threads + 1), out, report=events.append)
        assert [event.code for event in events if isinstance(event, Warning)] == ["evaluation-other-machine"]
        assert torch.get_num_threads() == threads


def read_first_fixed(config: EvaluationConfig) -> str:
    return next(iter(open_data(config).readers))[0]
