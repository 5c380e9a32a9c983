"""Find the velocity field of a pair: prepare the images, ask the network, refine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from autofuse_engine.carried_fields import CarriedFields
from autofuse_engine.configs import RefinementConfig, RegistrationConfig
from autofuse_engine.contrast_search import SHARE, CommonContrast, Side, find_common_contrast, within
from autofuse_engine.data.preprocessing import (
    Grid,
    suitable_spacing_mm,
    working_grid,
)
from autofuse_engine.data.volume import Volume
from autofuse_engine.events import Metric, Report, Warning
from autofuse_engine.guiding_labels import guiding_labels
from autofuse_engine.label_alignment import LabelAlignment
from autofuse_engine.lent_labels import (
    STAGE,
    compare,
    doubt_of,
    known_side,
    of_one_side,
    seen_labels,
    transfer_text,
    with_better_start,
)
from autofuse_engine.model_card import LEAST_LABELS, Preprocessing
from autofuse_engine.passes import Passes, given_after, moving_after, predict_in_passes
from autofuse_engine.prediction import ModelCache, Prediction, ReadyModel, predict
from autofuse_engine.refinement import LevelReport, RefinementPair, refine
from autofuse_engine.search_memory import require_memory
from autofuse_engine.search_pair import covered_share, moving_map, pair_on_grid
from autofuse_engine.search_records import Attempt, ContrastFigures, Found, PairImages
from autofuse_engine.spatial.resample import resample

STEPS_WITHOUT_MODEL = 40
FINEST_STEPS_WITHOUT_MODEL: Mapping[str, int] = {"cpu": 10}
"""By the kind of device, where a step at the finest level takes as long as eight at the next one; others make as many
as at the coarser levels (docs/experiments.md has what further steps bring)."""
STEPS_WITH_MODEL = 10
"""At both levels, where the model's card does not say."""
_MULTIPLE_WITHOUT_MODEL = 8
_WORKING_PREPROCESSING = Preprocessing(intensity_percentiles=(0.0, 99.5))
_FINER = 0.9

Stage = Callable[[str], AbstractContextManager[None]]


class Search:
    """One attempt to find the velocity field."""

    def __init__(
        self,
        config: RegistrationConfig,
        attempt: Attempt,
        models: ModelCache,
        stage: Stage,
        report: Report,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            config: of the registration.
            attempt: with how much memory.
            models: gives the network.
            stage: told of the network and the refinement.
            report: receives events.
            between: called between pieces of the preparation of the images; may raise to stop.
        """
        self.between = between
        self.config, self.attempt, self.stage, self.report = config, attempt, stage, report
        self.model: ReadyModel | None = None
        self._believed = True
        self._known_side: Side | None = None
        if config.model != "none":
            self.model = models.get(config.model, attempt.device, attempt.precision)

    def find(self, images: PairImages, stop: Callable[[], bool]) -> Found:
        """Predict and refine.

        Args:
            images: the pair.
            stop: asked between steps of the refinement; True keeps the best field so far.
        """
        model_grid = grid = self._grid(images.fixed)
        steps = self._steps
        self._warn_of_vain_smoothness(steps)
        self._warn_of_no_field(steps)
        passes: Passes | None = None
        fields = CarriedFields()
        levels: tuple[LevelReport, ...] = ()
        labels, aligned, common, segmented_under = 0, None, None, images.start
        if steps > 0:
            grid = self._finer_grid(images.fixed, model_grid)
        if not self._has_field and images.start.deformation is not None:
            before = images.start.displacement_vox(grid, self.attempt.device, self.between)
            fields = CarriedFields() if before is None else CarriedFields.starting_from(before)
        if self.model is not None or steps > 0:
            guided = images.guidance is not None or (self._segments and self._weight_of_predicted > 0)
            require_memory(self.attempt.device, self.model, model_grid, grid, has_labels=guided)
            pair = self._pair(images, model_grid)
            if self.model is not None:
                with self.stage("network"):
                    images, pair, known, aligned = self._labels_come_first(self.model, images, pair, model_grid)
                    segmented_under = images.start
                    passes = self._predict(self.model, pair, images, model_grid, known)
                    fields = CarriedFields.of(passes) if self._has_field else fields
                    steps = self._steps if steps > 0 else 0
            if steps > 0:
                with self.stage("refinement"), torch.inference_mode(False):
                    report, seen = self.report, pair
                    if self._known_side is not None and passes is not None:
                        common = self._common_contrast(self._known_side, pair, passes.first, images, model_grid, stop)
                        images = with_better_start(images, model_grid, common.matrix_vox)
                        report = within(report, SHARE, 1.0)
                    if grid is not model_grid or common is not None:
                        pair = self._pair(images, grid)
                        fields = fields.onto(grid, model_grid) if self._has_field else fields
                    pair = replace(pair, labels=self._guiding_labels(passes, images, grid, model_grid))
                    if common is not None:
                        covered = covered_share(images, common.side, grid, self.attempt.device)
                        pair = common.applied(pair, covered, grid, seen.moving_from_fixed_vox)
                    weight = self._weight_of_predicted if images.guidance is None else self._weight_of_given
                    settings = replace(self._settings(steps), labels=weight)
                    start = fields.velocity_vox if self._has_field else None
                    base = fields.following_vox
                    result = refine(pair, settings, start_vox=start, base_vox=base, report=report, stop=stop)
                    fields, levels = replace(fields, velocity_vox=result.velocity_vox), result.levels
                    labels = result.labels
        card = None if self.model is None else self.model.card
        first = None if passes is None else passes.first
        return Found(
            start=images.start,
            segmented_under_ras=segmented_under.matrix_ras,
            label_alignment=aligned,
            contrast=None if common is None else ContrastFigures(known=common.side, correlation=common.correlation),
            velocity_vox=fields.velocity_vox,
            grid=grid,
            model_grid=model_grid,
            samples_vox=fields.samples_vox,
            gate_means=None if first is None else first.gate_means,
            steps=steps,
            levels=levels,
            labels=labels,
            model_name="none" if card is None else card.name,
            model_sha256=None if card is None or card.weights is None else card.weights.sha256,
            fixed_classes=None if first is None else first.fixed_classes,
            moving_classes=None if first is None else first.moving_classes,
            following=fields.following,
            regularity_weight=None if first is None else first.regularity_weight,
            passes_mm=() if passes is None else passes.lengths_mm,
        )

    @property
    def _has_field(self) -> bool:
        """Whether a field is predicted: not of images of which the model knows one alone."""
        return self.model is not None and self.model.card.predicts_field and self._known_side is None

    @property
    def _segments(self) -> bool:
        return self.model is not None and self.model.card.network.classes > 0

    @property
    def _preprocessing(self) -> Preprocessing:
        return _WORKING_PREPROCESSING if self.model is None else self.model.card.preprocessing

    @property
    def _steps(self) -> int:
        """Steps of the refinement at each level: as asked for, else what the model's card says, else the default."""
        if self.config.refinement_steps is not None:
            return self.config.refinement_steps
        if self.model is None or self._known_side is not None:
            return STEPS_WITHOUT_MODEL
        stated = self.model.card.refinement_steps
        default = STEPS_WITH_MODEL if self._has_field else STEPS_WITHOUT_MODEL
        return default if stated is None else stated

    def _finest_steps(self, steps: int) -> int:
        """Fewer than elsewhere only by default, and without a model's field to start from."""
        alone = self.model is None or self._known_side is not None
        stated = None if alone or self.model is None else self.model.card.refinement_steps
        if self._has_field or stated is not None or self.config.refinement_steps is not None:
            return steps
        return FINEST_STEPS_WITHOUT_MODEL.get(self.attempt.device.type, steps)

    def _settings(self, steps: int) -> RefinementConfig:
        """Of the refinement. Images of one contrast, given or made, have better measures than MIND."""
        similarity = self.config.similarity
        if self._known_side is not None and similarity == "mind":
            similarity = "lncc"
        default = RefinementConfig(similarity=similarity, steps=steps, finest_steps=self._finest_steps(steps))
        return replace(default, smoothness=default.smoothness * self.config.smoothness)

    def _common_contrast(
        self,
        side: Side,
        pair: RefinementPair,
        seen: Prediction,
        images: PairImages,
        grid: Grid,
        stop: Callable[[], bool],
    ) -> CommonContrast:
        probabilities = seen.fixed_probabilities if side == "fixed" else seen.moving_probabilities
        if probabilities is None:
            raise RuntimeError("the probabilities of the labels were not kept")
        return find_common_contrast(
            pair,
            grid,
            side,
            covered_share(images, side, grid, self.attempt.device),
            probabilities,
            self._settings(self._steps),
            kind=self._kind if self._may_move(images) else None,
            report=self.report,
            stop=stop,
            between=self.between,
        )

    @property
    def _kind(self) -> Literal["rigid", "affine"]:
        return "rigid" if self.config.initial == "rigid" else "affine"

    def _warn_of_no_field(self, steps: int) -> None:
        if self.model is None or self._has_field:
            return
        model = f"The model {self.model.card.name} lends its labels to the refinement and predicts no field: "
        if self.config.passes > 1:
            self.report(Warning(code="passes-unused", text=model + "it looks at the images once."))
        if steps == 0:
            text = model + "without a refinement the result is what the search started from."
            self.report(Warning(code="model-without-field", text=text))

    def _warn_of_vain_smoothness(self, steps: int) -> None:
        if self.model is None or steps > 0 or self.config.smoothness == 1 or self.model.card.network.conditional:
            return
        text = (
            f"The smoothness changes nothing: the model {self.model.card.name} does not take one, and its prediction "
            "is not refined. Ask for steps of the refinement, or leave the smoothness at 1."
        )
        self.report(Warning(code="smoothness-unused", text=text))

    def _finer_grid(self, fixed: Volume, model_grid: Grid) -> Grid:
        """Where the refinement works: as without a model where that is finer than the model's grid and none is asked
        for; else the model's grid itself, the same object."""
        spacing = suitable_spacing_mm(fixed) * self.attempt.coarser
        if self.model is None or self.config.spacing_mm is not None or spacing > _FINER * model_grid.spacing_mm.min():
            return model_grid
        sides = (spacing, spacing, spacing)
        return working_grid(fixed, sides, _MULTIPLE_WITHOUT_MODEL, self._preprocessing.orientation)

    def _grid(self, fixed: Volume) -> Grid:
        multiple = _MULTIPLE_WITHOUT_MODEL if self.model is None else self.model.card.network.size_multiple
        if self.config.spacing_mm is not None:
            spacing = (self.config.spacing_mm,) * 3
        elif self.model is not None:
            spacing = self._preprocessing.spacing_mm
        else:
            spacing = (suitable_spacing_mm(fixed),) * 3
        x, y, z = (side * self.attempt.coarser for side in spacing)
        return working_grid(fixed, (x, y, z), multiple, self._preprocessing.orientation)

    def _pair(self, images: PairImages, grid: Grid) -> RefinementPair:
        return pair_on_grid(images, grid, self._preprocessing, self.attempt.device, self.between)

    @property
    def _weight_of_predicted(self) -> float:
        """How much labels that the model predicts count in the refinement."""
        stated = self.config.label_weight
        if stated is None and self.model is not None:
            stated = self.model.card.label_weight
        return (stated or 0.0) * (self._steps > 0) * self._believed

    @property
    def _weight_of_given(self) -> float:
        stated = self.config.label_weight
        return (RefinementConfig().labels if stated is None else stated) * (self._steps > 0)

    def _guiding_labels(
        self, passes: Passes | None, images: PairImages, grid: Grid, model_grid: Grid
    ) -> tuple[Tensor, Tensor] | None:
        guidance, predicted = images.guidance, passes is not None and self._weight_of_predicted > 0
        if not predicted and (guidance is None or self._weight_of_given == 0):
            return None
        first = passes.first if passes is not None and predicted else None
        return self._labels_of(first, images, grid, model_grid)

    def _labels_of(
        self, known: Prediction | None, images: PairImages, grid: Grid, model_grid: Grid
    ) -> tuple[Tensor, Tensor] | None:
        guidance = images.guidance
        given = None if guidance is None else guidance.on_grid(grid, images.moving_from_fixed_ras)
        of_model = guidance is None or guidance.of_model
        return guiding_labels(known, given, grid, model_grid, of_model=of_model, between=self.between)

    def _labels_come_first(
        self, model: ReadyModel, images: PairImages, pair: RefinementPair, grid: Grid
    ) -> tuple[PairImages, RefinementPair, Prediction | None, LabelAlignment | None]:
        """Ask for the labels, believe them or not, and let them improve the alignment: the pair as it lies then, the
        labels there, and what was found of them."""
        keeps = self._weight_of_predicted > 0
        if not keeps or model.card.network.classes <= LEAST_LABELS:
            return images, pair, None, None
        known = seen_labels(model, pair, keeps_probabilities=keeps, between=self.between)
        labels = self._labels_of(known, images, grid, grid)
        found = None if labels is None else compare(labels, pair, grid, self._kind, self.between)
        if found is None:
            return images, pair, known, None
        self.report(Metric(stage=STAGE, step=0, values={"disagreement": found.after}))
        if doubt := doubt_of(model.card, found):
            if (side := self._side_for_transfer(model, known, images)) is not None:
                self._known_side, self._believed = side, False
                self.report(Warning(code="contrast-transferred", text=transfer_text(model.card, side)))
                return images, pair, of_one_side(known, side), replace(found, gained=False)
            self._believed = self.config.label_weight is not None
            cure = "They guide all the same, as asked." if self._believed else "Its labels are left out."
            text = f"{doubt} {cure} Choose a model that knows both, or 'none'."
            self.report(Warning(code="labels-disagree", text=text))
            return images, pair, known, replace(found, gained=False)
        if not (found.gained and self._may_move(images)):
            return images, pair, known, replace(found, gained=False)
        images = with_better_start(images, grid, found.matrix_vox)
        pair = replace(pair, moving_from_fixed_vox=moving_map(images, grid))
        if not self._has_field:
            known = seen_labels(model, pair, known, keeps_probabilities=keeps, between=self.between)
        return images, pair, known, found

    def _side_for_transfer(self, model: ReadyModel, known: Prediction, images: PairImages) -> Side | None:
        """The image that the model knows, where it knows that one alone and may show it in the other's contrast."""
        if self.config.label_weight is not None or images.start.deformation is not None:
            return None
        return known_side(model.card, known)

    def _may_move(self, images: PairImages) -> bool:
        wanted, start = self.config.label_alignment, images.start
        masked = images.fixed_mask is not None or images.moving_mask is not None
        if wanted is False or masked or start.deformation is not None:
            return False
        return wanted is True or self.config.initial in ("rigid", "affine")

    def _predict(
        self,
        model: ReadyModel,
        pair: RefinementPair,
        images: PairImages,
        grid: Grid,
        known: Prediction | None,
    ) -> Passes:
        """``known`` has the labels, where they were asked for before."""
        config, guidance = self.config, images.guidance
        if not self._has_field:
            keeps = self._weight_of_predicted > 0
            known = known or seen_labels(model, pair, keeps_probabilities=keeps, between=self.between)
            return Passes(first=known, last=known, following=(), following_vox=None, lengths_mm=())
        aligned = resample(pair.moving, pair.moving_from_fixed_vox, tuple(pair.fixed.shape[2:]))
        given = None
        if guidance is not None and guidance.of_model:
            given = guidance.on_grid(grid, images.moving_from_fixed_ras)

        def look(displacement_vox: Tensor | None) -> Prediction:
            moving, moving_given = aligned, None if given is None else given.moving
            if displacement_vox is not None:
                moving = moving_after(pair, displacement_vox)
                moving_given = given_after(moving_given, displacement_vox)
            return predict(
                model,
                pair.fixed,
                moving,
                samples=config.samples,
                seed=config.seed,
                smoothness=config.smoothness,
                fixed_given=None if given is None else given.fixed,
                moving_given=moving_given,
                keeps_probabilities=displacement_vox is None and self._weight_of_predicted > 0,
                between=self.between,
            )

        before = images.start.displacement_vox(grid, pair.fixed.device, self.between)
        passes = predict_in_passes(config.passes, look, grid.spacing_mm, before)
        if before is not None and model.card.network.classes:
            return replace(passes, first=look(None))  # classes of the moving image lie where that was aligned
        return passes
