"""What the tensors of the published weights are called there, and in our networks."""

from __future__ import annotations

from collections.abc import Iterator

INDEX_SUFFIX = ".relative_position_index"
"""Ending of the tables of whole numbers that the release stores with each attention; ours are computed."""

_PATHS = (("SinglePath", "single_image_path"), ("FusionPath", "pair_path"))
_BLOCK = {
    "norm1": "norm_1",
    "attn.qkv": "attention.query_key_value",
    "attn.proj": "attention.projection",
    "norm2": "norm_2",
    "mlp.linear1": "perceptron.0",
    "mlp.linear2": "perceptron.2",
}


def release_names(*, large_kernels: bool, segmentation: str | None = None, transformer: bool = False) -> dict[str, str]:
    """Name of each tensor in the release, and the name of the same tensor in our network.

    Args:
        large_kernels: whether the gates have their ELK part.
        segmentation: the release's name of the segmentation head of a semi-supervised network, or None.
        transformer: whether the network is AutoFuse-Trans.
    """
    modules = {} if segmentation is None else {segmentation: "segmentation.scores"}
    tables: dict[str, str] = {}
    for theirs, ours in _PATHS:
        if transformer and (theirs == "FusionPath" or segmentation is None):
            modules |= dict(_of_swin_path(theirs, ours))
            tables |= dict(_tables_of_swin_path(theirs, ours))
        else:
            last = 9 if theirs == "SinglePath" and segmentation is not None else 8
            modules |= dict(_of_convolutional_path(theirs, ours, last))
    for number in range(7):
        theirs, ours = f"FusionPath.FG_{number + (1 if transformer else 2)}", f"gates.{number}"
        modules[f"{theirs}.Conv"] = f"{ours}.match"
        modules[f"{theirs}.Conv_in"] = f"{ours}.pair_logit"
        modules[f"{theirs}.Conv_con"] = f"{ours}.matched_logit"
        if large_kernels:
            modules |= {f"{theirs}.ELK.Conv_{branch + 1}": f"{ours}.output.branches.{branch}" for branch in range(4)}
            modules[f"{theirs}.ELK.Conv"] = f"{ours}.output.merge"
    modules["FusionPath.reghead.Conv"] = "head.shared"
    modules["FusionPath.reghead.mean_head"] = "head.mean"
    modules["FusionPath.reghead.sigma_head"] = "head.log_variance"
    named = {f"{theirs}.{kind}": f"{ours}.{kind}" for theirs, ours in modules.items() for kind in ("weight", "bias")}
    return named | tables


def _of_convolutional_path(theirs: str, ours: str, last: int) -> Iterator[tuple[str, str]]:
    for stage in range(1, last + 1):
        yield f"{theirs}.conv_{stage}.Conv_1", f"{ours}.stages.{stage - 1}.first"
        yield f"{theirs}.conv_{stage}.Conv_2", f"{ours}.stages.{stage - 1}.second"


def _of_swin_path(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    changes = {"PatchEmbed": "proj"}
    changes |= {f"downsample_{number}": "down_conv" for number in (1, 2, 3)}
    changes |= {f"upsample_{number}": "up_conv" for number in (4, 5, 6)}
    for number, (change, convolution) in enumerate(changes.items()):
        yield f"{theirs}.{change}.{convolution}", f"{ours}.changes.{number}.convolution"
        yield f"{theirs}.{change}.norm", f"{ours}.changes.{number}.norm"
    for stage in (5, 6, 7):
        yield f"{theirs}.backdim_{stage}", f"{ours}.stages.{stage - 1}.join"
    for block, own in _blocks(theirs, ours):
        yield from ((f"{block}.{theirs_part}", f"{own}.{part}") for theirs_part, part in _BLOCK.items())


def _tables_of_swin_path(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    for block, own in _blocks(theirs, ours):
        yield f"{block}.attn.relative_position_bias_table", f"{own}.attention.relative_bias"


def _blocks(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    for stage in range(1, 8):
        for block in (0, 1):
            yield f"{theirs}.trans_{stage}.blocks.{block}", f"{ours}.stages.{stage - 1}.blocks.{block}"
