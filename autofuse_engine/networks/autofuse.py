"""AutoFuse: one path sees the pair, one sees each image alone, gates fuse them, a head predicts the field."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autofuse_engine.networks.heads import FieldHead
from autofuse_engine.networks.network import GateMean, Guides, NetworkOutput, RegistrationNetwork
from autofuse_engine.networks.paths import Path
from autofuse_engine.networks.regularizer import Conditioning, WeightHead, modulate
from autofuse_engine.networks.segmentation import GivenClasses, SegmentationHead


class AutoFuse(RegistrationNetwork):
    """The network of Meng et al., AutoFuse, Pattern Recognition 2024, and its variants, by the parts passed in.

    Args:
        single_image_path: sees each image alone, with the same weights.
        pair_path: sees both images; has the same levels below full resolution, twice as wide.
        fusions: for each stage of the pair path below full resolution, the module that fuses ``(pair, fixed,
            moving)`` features into the stage's output and a mean weight, see ``fusion``.
        head: takes the last stage's output to the field.
        segmentation: semi-supervised networks only: segments an image from the last stage of the single-image path,
            which then ends at full resolution.
        input_fusion: whether the pair path sees two more channels, the maps that code the two segmentations.
        weight_head: predicts from the last stage's output how much smoothness counts where.
        conditioning: scales and shifts the output of each stage of the pair path, and the input of the head, by a
            code.
    """

    def __init__(
        self,
        single_image_path: Path,
        pair_path: Path,
        fusions: Sequence[nn.Module],
        head: FieldHead,
        *,
        segmentation: SegmentationHead | None = None,
        input_fusion: bool = True,
        weight_head: WeightHead | None = None,
        conditioning: Conditioning | None = None,
    ) -> None:
        super().__init__(
            2 ** max(pair_path.levels),
            is_conditional=conditioning is not None,
            guidable_classes=segmentation.scores.out_channels if segmentation is not None and input_fusion else 0,
        )
        self.single_image_path = single_image_path
        self.pair_path = pair_path
        self.gates = nn.ModuleList(fusions)
        self.head = head
        self.segmentation = segmentation
        self.input_fusion = input_fusion
        self.weight_head = weight_head
        self.conditioning = conditioning
        self._keeps_single_images = False

    def keep_single_images(self, keep: bool) -> None:
        """See :meth:`RegistrationNetwork.keep_single_images`."""
        self._keeps_single_images = keep

    def predict(
        self, fixed: Tensor, moving: Tensor, *, log_variance: bool, code: Tensor | None, guides: Guides
    ) -> NetworkOutput:
        """See :meth:`RegistrationNetwork.forward`."""
        images, logits = [fixed, moving], (None, None)
        if self.segmentation is None:
            singles: Iterator[tuple[Tensor, Tensor]] = zip(
                self._below_the_top(fixed), self._below_the_top(moving), strict=True
            )
        else:
            with self._keeping_single_images():
                of_fixed, of_moving = (
                    self._segmented(self.segmentation, image, given)
                    for image, given in zip(images, guides, strict=True)
                )
            singles = zip(of_fixed.features, of_moving.features, strict=True)
            images += [of_fixed.code, of_moving.code] if self.input_fusion else []
            logits = (of_fixed.logits, of_moving.logits)
        modulations = None if self.conditioning is None or code is None else self.conditioning(code)
        fusions = iter(self.gates)
        means: list[GateMean] = []

        def fuse(number: int, x: Tensor) -> Tensor:
            x = x if modulations is None else modulate(x, modulations[number])
            level = self.pair_path.levels[number]
            if level == 0:
                return x
            x, weight = self.run(next(fusions), x, *next(singles))
            if weight is not None:
                means.append(GateMean(stage=number + 1, level=level, pair_weight=weight))
            return x

        last = deque(self.pair_path.features(torch.cat(images, dim=1), fuse), maxlen=1).pop()
        last = last if modulations is None else modulate(last, modulations[-1])
        mean, log_variances = self.head(last, log_variance=log_variance)
        return NetworkOutput(
            velocity_mean=mean,
            velocity_log_variance=log_variances,
            is_displacement=self.head.is_displacement,
            gate_means=tuple(means),
            fixed_logits=logits[0],
            moving_logits=logits[1],
            regularity_weight=None if self.weight_head is None else self.weight_head(last),
        )

    @contextmanager
    def _keeping_single_images(self) -> Iterator[None]:
        """No gradient reaches what is computed in the block, where the path is kept; on the CPU it then runs lean, in
        float32."""
        if not self._keeps_single_images:
            yield
            return
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            yield

    def segment(self, image: Tensor) -> Tensor:
        """See :meth:`RegistrationNetwork.segment`."""
        if self.segmentation is None:
            return super().segment(image)
        *_, last = self.single_image_path.features(image.to(next(self.parameters()).dtype))
        return self.run(self.segmentation.logits, last)

    def _below_the_top(self, image: Tensor) -> Iterator[Tensor]:
        """Features of one image for the fusions."""
        path = self.single_image_path
        return (x for level, x in zip(path.levels, path.features(image), strict=True) if level > 0)

    def _segmented(self, segmentation: SegmentationHead, image: Tensor, given: GivenClasses | None) -> _Segmented:
        """Features of one image for the fusions, scores of its classes, and their map."""
        _, *features, last = self.single_image_path.features(image)
        logits, code = self.run(segmentation, last, given)
        return _Segmented(features, logits, code)


@dataclass(frozen=True, eq=False)
class _Segmented:
    features: Sequence[Tensor]
    logits: Tensor
    code: Tensor
