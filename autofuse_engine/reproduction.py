"""Train the networks of the paper's tables, export them, and compare them on the same pairs; goes on where it was.

Each part is one of the program's own use cases, with the choices that the plan makes: prepare, train, export, evaluate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from autofuse_engine import catalog
from autofuse_engine.data.atomic import replacing
from autofuse_engine.data.label_groups import read_label_rules
from autofuse_engine.data.manifest import MANIFEST
from autofuse_engine.data.prepared import PreparedDataset
from autofuse_engine.dataset_configs import PreparationConfig
from autofuse_engine.dataset_preparation import prepare_dataset
from autofuse_engine.errors import AutoFuseError, CancelledError, InputError, ModelError
from autofuse_engine.evaluation import evaluate
from autofuse_engine.evaluation_configs import EvaluationConfig, MethodSpec
from autofuse_engine.evaluation_methods import Method
from autofuse_engine.evaluation_peers import available_peers, peer_method
from autofuse_engine.evaluation_report import read_summary, write_report
from autofuse_engine.events import Event, Metric, Progress, Report, Warning, silent
from autofuse_engine.peer_voxelmorph_training import train_voxelmorph
from autofuse_engine.reproduction_folder import ReproductionFolder
from autofuse_engine.reproduction_plan import PlannedRun, ReproductionConfig, plan_runs, wanted_methods
from autofuse_engine.reproduction_tables import reproduction_markdown
from autofuse_engine.run_folder import RunFolder, read_status
from autofuse_engine.training import train
from autofuse_engine.training_export import export_model

REFINED = " + refinement"
PEER_NETWORK = "voxelmorph"
_PREPARED, _TRAINED = 0.05, 0.85
_STOPPED = "The reproduction was stopped; the same command goes on with it."


@dataclass(frozen=True, kw_only=True)
class ReproductionResult:
    """What a reproduction left.

    Attributes:
        files: ``tables`` and those of the report of its evaluation, by name.
        failed: by name of the network why it was not trained.
    """

    files: dict[str, str]
    failed: dict[str, str]


def reproduce(
    config: ReproductionConfig,
    out: str | Path,
    *,
    report: Report = silent,
    cancelled: Callable[[], bool] = lambda: False,
) -> ReproductionResult:
    """Do all of it, or what is left of it: finished trainings and judged pairs are not repeated.

    Args:
        config: what.
        out: folder for everything, made where absent; docs/reproduction.md describes it.
        report: receives progress and warnings.
        cancelled: asked between and within the parts.

    Raises:
        FileError: ``reproduction-differs``, ``output-not-empty``, and what the parts raise.
        InputError: ``method-invalid``, and what the parts raise.
        CancelledError: if ``cancelled()`` became true; the same call goes on.
    """
    folder = ReproductionFolder(out)
    wanted_methods(config)
    folder.begin(config)
    run = _Reproduction(config, folder, report, cancelled)
    try:
        dataset = run.prepare()
        runs = plan_runs(config, str(dataset.folder), len(dataset.labels))
        run.train_all(runs)
        run.train_peer(dataset)
        files = run.compare(dataset, [planned for planned in runs if planned.name not in run.failed])
    except CancelledError as error:
        raise CancelledError(_STOPPED) from error
    return ReproductionResult(files=files, failed=run.failed)


def dataset_folder(config: ReproductionConfig, folder: ReproductionFolder) -> Path:
    """Where the prepared dataset lies or will lie: the given one where it is prepared already."""
    given = Path(config.data)
    return given if (given / MANIFEST).is_file() else folder.dataset


def is_trained(planned: PlannedRun, folder: Path) -> bool:
    """Whether a run has taken all of its steps."""
    if not RunFolder(folder).config.exists():
        return False
    status = read_status(folder)
    return status.state == "finished" and status.step >= planned.training.steps


class _Reproduction:
    def __init__(
        self,
        config: ReproductionConfig,
        folder: ReproductionFolder,
        report: Report,
        cancelled: Callable[[], bool],
    ) -> None:
        self._config, self._folder = config, folder
        self._report, self._cancelled = report, cancelled
        self.failed: dict[str, str] = {}
        self._told: set[str] = set()

    def prepare(self) -> PreparedDataset:
        """The prepared dataset, whose images all have been aligned by an affine transform once."""
        path = dataset_folder(self._config, self._folder)
        if path != self._folder.dataset:
            return PreparedDataset.open(path)
        spacing, rules = self._config.size.spacing_mm, self._config.label_rules
        preparation = PreparationConfig(
            spacing_mm=None if spacing is None else (spacing, spacing, spacing),
            label_rules=None if rules is None else read_label_rules(rules),
            seed=self._config.seed,
        )
        told = self._part("preparing", 0.0, _PREPARED)
        return prepare_dataset(self._config.data, path, preparation, report=told, cancelled=self._cancelled)

    def train_all(self, runs: tuple[PlannedRun, ...]) -> None:
        """Take the steps that are left, network by network, and export each one that has all of them."""
        for number, planned in enumerate(runs):
            share = (_TRAINED - _PREPARED) / len(runs)
            start = _PREPARED + share * number
            folder = self._folder.run(planned.name)
            told = self._part(f"training {planned.name}, {number + 1} of {len(runs)}", start, start + share)
            if not is_trained(planned, folder):
                try:
                    result = train(planned.training, folder, resume=True, report=told, stop=self._cancelled)
                except AutoFuseError as error:
                    if error.code not in ("training-diverged", "pairs-too-few"):
                        raise
                    self._fail(planned.name, error)
                    continue
                if not result.finished:
                    raise CancelledError(_STOPPED)
            self._export(planned)

    def train_peer(self, dataset: PreparedDataset) -> None:
        """VoxelMorph's own package, where it is installed; a training that was interrupted begins again."""
        if PEER_NETWORK not in wanted_methods(self._config) or available_peers()[PEER_NETWORK] is None:
            return
        weights = self._folder.model(f"{PEER_NETWORK}-package")
        if weights.exists():
            return
        unfinished = self._folder.runs / weights.name
        size = self._config.size
        try:
            train_voxelmorph(
                dataset.folder,
                unfinished,
                steps=size.steps,
                learning_rate=size.learning_rate,
                seed=self._config.seed,
                validation_every=max(1, size.steps // 5),
                device=self._config.device,
                report=self._part(f"training {PEER_NETWORK} (package)", _TRAINED, _TRAINED),
                cancelled=self._cancelled,
            )
        except InputError as error:
            self._fail(PEER_NETWORK, error)
            return
        unfinished.replace(weights)

    def compare(self, dataset: PreparedDataset, runs: list[PlannedRun]) -> dict[str, str]:
        """Judge every method on the validation pairs; write the report and the tables."""
        out = self._folder.evaluation
        config = EvaluationConfig(
            dataset=str(dataset.folder),
            methods=tuple(self._methods(runs)),
            pairs=self._config.pairs,
            split="validation",
            device=self._config.device,
            seed=self._config.seed,
        )
        told = self._part("comparing", _TRAINED, 1.0)
        evaluate(config, out, report=told, cancelled=self._cancelled, make_peer=self._peer)
        names = {planned.name for planned in runs}
        reference = "autofuse" if "autofuse" in names else None
        files = write_report(out, reference=reference)["files"]
        _, summary = read_summary(out, reference)
        text = reproduction_markdown(self._config, dataset, runs, summary, self.failed)
        with replacing(self._folder.tables) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return {"tables": str(self._folder.tables), **files}

    def _methods(self, runs: list[PlannedRun]) -> list[MethodSpec]:
        wanted, peers = wanted_methods(self._config), available_peers()
        methods: list[MethodSpec] = []
        if "affine" in wanted:
            methods.append(MethodSpec(name="affine", kind="affine"))
        if "refinement" in wanted:
            methods.append(MethodSpec(name="refinement", kind="refinement", refinement_steps=None))
        for kind in ("syn", "elastix"):
            if kind in wanted and peers[kind] is not None:
                methods += _alone_and_refined(MethodSpec(name=kind, kind=kind))
        weights = self._folder.model(f"{PEER_NETWORK}-package")
        if PEER_NETWORK in wanted and peers[PEER_NETWORK] is not None and weights.exists():
            methods += _alone_and_refined(MethodSpec(name=PEER_NETWORK, kind="voxelmorph", model=str(weights)))
        for planned in runs:
            model = str(self._folder.model(planned.name))
            methods += _alone_and_refined(MethodSpec(name=planned.name, kind="model", model=model))
        if not methods:
            raise InputError(
                "method-invalid",
                "None of the methods that were asked for can run here: their packages are not installed.",
                "Ask for other methods, or install the packages.",
            )
        return methods

    def _peer(self, spec: MethodSpec) -> Method:
        return peer_method(spec, seed=self._config.seed, device=self._config.device)

    def _export(self, planned: PlannedRun) -> None:
        """The last checkpoint: the best one would have been chosen on the pairs that judge it."""
        try:
            catalog.verify(self._folder.model(planned.name))
        except ModelError:
            export_model(
                self._folder.run(planned.name),
                planned.name,
                checkpoint="last",
                folder=self._folder.models,
                overwrite=True,
                title=f"{planned.name}, reproduction with the {self._config.target}, {planned.training.steps} steps",
            )

    def _fail(self, name: str, error: AutoFuseError) -> None:
        self.failed[name] = error.text
        self._report(Warning(code="reproduction-network-failed", text=f"{name} takes no part: {error.text}"))

    def _is_new(self, warning: Warning) -> bool:
        """Whether it has to be told: what each registration says of a model and an image is told once of all."""
        about_model = warning.code.startswith("model-")
        known = about_model and warning.code in self._told
        self._told.add(warning.code)
        return not known

    def _part(self, stage: str, start: float, end: float) -> Report:
        """Pass on what a part tells; its progress becomes that of the whole."""
        if self._cancelled():
            raise CancelledError(_STOPPED)

        def tell(event: Event) -> None:
            if isinstance(event, Progress):
                text = event.text or event.stage
                fraction = start + (end - start) * event.fraction
                self._report(Progress(stage=stage, fraction=fraction, text=text))
            elif isinstance(event, Metric) or (isinstance(event, Warning) and self._is_new(event)):
                self._report(event)

        return tell


def _alone_and_refined(spec: MethodSpec) -> list[MethodSpec]:
    return [spec, replace(spec, name=spec.name + REFINED, refinement_steps=None)]
