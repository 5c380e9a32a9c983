"""What each visual check shows and how to read it, in a sentence or two: for tooltips and below the views."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slicer.i18n import tr as _

from AutoFuseLib.ResultNodes import ResultNodes

if TYPE_CHECKING:
    from AutoFuseLib.DeformationDisplay import Sizes


def title(kind: str) -> str:
    """The name of a kind, for a button."""
    return {
        "blend": _("Blend"),
        "flicker": _("Flicker"),
        "checkerboard": _("Checkerboard"),
        "difference": _("Difference"),
        "grid": _("Grid"),
        "arrows": _("Arrows"),
        "contours": _("Contours"),
        "jacobian": _("Jacobian"),
        "uncertainty": _("Uncertainty"),
        "regularity": _("Smoothness weight"),
    }[kind]


def absent(kind: str) -> str:
    """Why a result may lack the volume that a kind shows, as a sentence."""
    return {
        "jacobian": _("This result has no Jacobian map."),
        "uncertainty": _("This result has no uncertainty: it comes from a model that predicts one."),
        "regularity": _("This result has no weight of smoothness: it comes from a model that learns one."),
    }[kind]


def tooltip(kind: str) -> str:
    """What a kind shows and what to look for, for a tooltip."""
    return {
        "blend": _(
            "The registered image over the fixed image, half transparent. Edges that are drawn twice do not fit."
        ),
        "flicker": _("The fixed and the registered image in turn. What jumps does not fit."),
        "checkerboard": _(
            "Squares of the fixed and of the registered image in turn. Lines should run on across squares."
        ),
        "difference": _(
            "Registered minus fixed image, each scaled to its own range of intensities. Red: the registered image is "
            "brighter, blue: darker, white: equal. Means something only for images of the same kind."
        ),
        "grid": _(
            "A regular grid of the moving image as the deformation bends it, without the initial alignment. Lines "
            "that cross or turn back show folding."
        ),
        "arrows": _("From where tissue lay, after the initial alignment, to where the deformation took it."),
        "contours": _("Lines of equal displacement beyond the initial alignment."),
        "jacobian": _(
            "Local change of volume from the fixed to the moving image. Orange: larger in the moving image, purple: "
            "smaller, white: unchanged, yellow: folded, where no tissue can go."
        ),
        "uncertainty": _("Standard deviation of the displacement that the model states for each place."),
        "regularity": _(
            "How much smoothness counts at each place, as the model has learned it. Bright (1): kept smooth; dark "
            "(towards 0): free to bend or slide."
        ),
    }[kind]


def caption(
    kind: str, after: bool, result: ResultNodes, sizes: Sizes | None, squareMm: float, differenceReach: float
) -> str:
    """A line below the views: what is seen now, with its figures."""
    fixed = result.fixed.GetName() if result.fixed is not None else _("fixed image")
    moving = result.moving.GetName() if result.moving is not None else _("moving image")
    state = _("{name}, registered").format(name=moving) if after else _("{name}, before").format(name=moving)
    if kind == "blend":
        return _("{state}, over {fixed}").format(state=state, fixed=fixed)
    if kind == "flicker":
        return _("{fixed} and {state}, in turn").format(state=state, fixed=fixed)
    if kind == "checkerboard":
        return _("{fixed} and {state}, in squares of {size:g} mm").format(state=state, fixed=fixed, size=squareMm)
    if kind == "difference":
        return _("{state}, minus {fixed}; full colour at {reach:.0%} of the intensity range").format(
            state=state, fixed=fixed, reach=differenceReach
        )
    if not after:
        return state
    if kind == "jacobian":
        return _("Volume change on {fixed}; yellow: folded ({count} cells, {percent:.3f} %)").format(
            fixed=fixed,
            count=result.report.get("folding_count") or 0,
            percent=result.report.get("folding_percent") or 0.0,
        )
    if kind == "uncertainty":
        return _("Standard deviation of the displacement on {fixed}, mm").format(fixed=fixed)
    if kind == "regularity":
        return _("Weight of smoothness on {fixed}: 1 kept smooth, towards 0 free to bend").format(fixed=fixed)
    if sizes is None:
        return state
    if kind == "grid":
        text = _("Grid of {size:.1f} mm, deformed, on {state}").format(size=sizes.gridSpacing, state=state)
    elif kind == "arrows":
        text = _("Displacement on {state}").format(state=state)
        text += _(", arrows {scale:g} times longer").format(scale=sizes.arrowScale) if sizes.arrowScale > 1 else ""
    else:
        levels = ", ".join(f"{level:g}" for level in sizes.levels)
        text = _("Equal displacement at {levels} mm, on {state}").format(levels=levels, state=state)
    return _("{text}; without the initial alignment").format(text=text)
