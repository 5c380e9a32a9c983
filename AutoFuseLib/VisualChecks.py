"""The visual checks of a registration: blend, flicker, checkerboard, difference, grid, arrows, contours, Jacobian,
uncertainty. One at a time, before or after the registration, in the slice and 3D views of the layout.

No widgets and no dialogs: a panel, or a script, calls :class:`VisualChecks`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import qt
import slicer
import slicer.util
from numpy.typing import NDArray
from slicer.i18n import tr as _

from AutoFuseLib import CheckTexts
from AutoFuseLib.CheckColors import BLUE_WHITE_RED, DARK_TO_BRIGHT, JACOBIAN_RANGE, evenColors, jacobianColors
from AutoFuseLib.CheckImages import CheckImages, hasImage
from AutoFuseLib.CheckSegmentations import CheckSegmentations
from AutoFuseLib.CheckVolumes import highest99
from AutoFuseLib.DeformationDisplay import DeformationDisplay
from AutoFuseLib.Geometry import hasLinearParent
from AutoFuseLib.HiddenNodes import inScene
from AutoFuseLib.Layouts import ViewMemory, lookFromCorner, threeDViews
from AutoFuseLib.OverlayDisplay import OverlayDisplay
from AutoFuseLib.ResultNodes import ResultNodes
from AutoFuseLib.Steps import Steps, exhaust

KINDS = ("blend", "flicker", "checkerboard", "difference", "grid", "arrows", "contours", "jacobian", "uncertainty",
         "regularity")  # fmt: skip
DEFORMATION = ("grid", "arrows", "contours")
OVERLAYS = ("jacobian", "uncertainty", "regularity")
COMPUTED = ("checkerboard", "difference")

DIFFERENCE_REACH = 0.5
"""Full colours at half of the intensity range; before and after alike, so that a smaller difference looks smaller."""

_FLICKER_MS = 500


class VisualChecks:
    """Shows one result in one way at a time, and brings the views back as they were.

    "After" shows the warped image. "Before" shows the moving image where it lay: under its own parent transforms, but
    without the result's transform should the user have put it there. Of the kinds that show the deformation itself
    (grid, arrows, contours, Jacobian, uncertainty, smoothness weight), "before" hides it and shows the moving image
    alone.
    """

    KINDS = KINDS

    def __init__(self, result: ResultNodes) -> None:
        """Nothing changes in the scene until :meth:`show`."""
        self._result = result
        self._kind: str | None = None
        self._after = True
        self._opacity = {"blend": 0.5} | {"jacobian": 0.65, "uncertainty": 0.6, "regularity": 0.6}
        self._squareMm: float | None = None
        self._flickerMs = _FLICKER_MS
        self._timer: Any = None
        self._memory: ViewMemory | None = None
        self._segmentations = CheckSegmentations()
        self._views: list[Any] = []
        self._overlay: OverlayDisplay | None = None
        self._deformation: DeformationDisplay | None = None
        self._images = CheckImages(result)
        self._used: tuple[Any, ...] = ()
        self._observers: list[int] = []
        self._turn = 0
        self._turnCameras = False
        self._changing = False

    # ------------------------------------------------------------------------------------------- what there is

    @property
    def current(self) -> str | None:
        """The kind that is shown, None if none is."""
        return self._kind

    @property
    def after(self) -> bool:
        """Whether the registered state is shown rather than the original one."""
        return self._after

    def available(self, kind: str) -> str:
        """Empty if the kind can be shown; else a sentence why not."""
        if kind not in KINDS:
            raise ValueError(f"a visual check is one of {KINDS}, received {kind!r}")
        result = self._result
        if slicer.app.layoutManager() is None:
            return _("There are no views without Slicer's main window.")
        if not hasImage(result.fixed):
            return _("The fixed volume is no longer in the scene.")
        if not hasImage(result.moving):
            return _("The moving volume is no longer in the scene.")
        if kind in OVERLAYS and not hasImage(getattr(result, kind)):
            return CheckTexts.absent(kind)
        if kind not in OVERLAYS and not hasImage(result.warped) and not inScene(result.transform):
            return _("This result has neither a warped volume nor a transform.")
        if kind in DEFORMATION and not inScene(result.transform):
            return _("The transform of this result is no longer in the scene.")
        onFixedGrid = kind in COMPUTED or kind in DEFORMATION or not hasImage(result.warped)
        if onFixedGrid and not hasLinearParent(result.fixed):
            return _("The fixed volume lies under a non-linear transform now: harden that transform first.")
        return ""

    def caption(self) -> str:
        """What the views show now and how to read it, with its figures; empty if nothing is shown."""
        if self._kind is None:
            return ""
        sizes = self._deformation.sizes if self._deformation is not None else None
        return CheckTexts.caption(self._kind, self._after, self._result, sizes, self.checkerSize, DIFFERENCE_REACH)

    # ------------------------------------------------------------------------------------------- show and hide

    def show(self, kind: str) -> None:
        """Show a kind at once; see :meth:`showSteps`."""
        exhaust(self.showSteps(kind))

    def showSteps(self, kind: str) -> Steps[None]:
        """Show a kind in place of the one that is shown, computing what it needs in small pieces.

        The first one remembers the views. They are fitted to the fixed image, except those that show one of the
        images already: there the user has chosen what to look at. Pieces that are overtaken by another call of
        this object's methods end without effect.

        Raises:
            ValueError: if the kind is not available.
        """
        reason = self.available(kind)
        if reason:
            raise ValueError(reason)
        self._turn += 1
        turn, after = self._turn, self._after
        image = None
        if kind == "checkerboard":
            image = yield from self._images.checkerboardSteps(after, self.checkerSize)
        elif kind == "difference":
            image = yield from self._images.differenceSteps(after)
        elif after and kind not in OVERLAYS:
            image = yield from self._images.warpedSteps()
        if turn != self._turn or self.available(kind):
            return
        self._apply(kind, image)
        if self._deformation is not None:
            for _piece in self._deformation.revealSteps():
                yield
                if turn != self._turn:
                    return
            self._lookAtDeformation()

    def refreshSteps(self, result: ResultNodes) -> Steps[None]:
        """The nodes of the result have new content: show it in the way that is shown, if one is.

        Args:
            result: the same fixed and moving image, and what is known of them now.
        """
        self._result = result
        self._images.refresh(result)
        if self._kind is not None:
            if self.available(self._kind):
                self.hide()
            else:
                yield from self.showSteps(self._kind)

    def setAfter(self, after: bool) -> None:
        """Show the registered or the original state; see the class for what that means for each kind."""
        exhaust(self.setAfterSteps(after))

    def setAfterSteps(self, after: bool) -> Steps[None]:
        """As :meth:`setAfter`, in small pieces."""
        self._after = bool(after)
        if self._kind is not None:
            yield from self.showSteps(self._kind)

    def hide(self) -> None:
        """Bring layout, layers, opacities and displays back as they were before the first :meth:`show`."""
        self._turn += 1
        if self._kind is None or self._changing:
            return
        self._changing = True
        try:
            self._kind = None
            self._stopObserving()
            self._clearKind()
            if self._memory is not None:
                self._memory.restore()
            self._segmentations.restore()
        finally:
            self._memory, self._used, self._views = None, (), []
            self._images.forget()
            self._changing = False

    cleanup = hide
    """For the end of a panel; the object can be used again afterwards."""

    # ------------------------------------------------------------------------------------------- settings

    @property
    def opacity(self) -> float:
        """Opacity of the upper image of the kind that is shown, or else of the blend; 0..1."""
        return self._opacity.get(self._kind or "blend", 1.0)

    def setOpacity(self, opacity: float) -> None:
        """Of the warped (or moving) image in a blend, of the colours over the Jacobian's or uncertainty's anatomy."""
        kind = self._kind if self._kind in self._opacity else "blend"
        self._opacity[kind] = float(np.clip(opacity, 0.0, 1.0))
        if self._kind == kind and (kind == "blend" or self._after):
            for view in self._views:
                view.composite.SetForegroundOpacity(self._opacity[kind])

    def setFlickerInterval(self, seconds: float) -> None:
        """Time that each image stays, at least 0.1 s."""
        self._flickerMs = max(100, round(seconds * 1000))
        if self._timer is not None:
            self._timer.setInterval(self._flickerMs)

    @property
    def checkerSize(self) -> float:
        """Side of the checkerboard's squares, mm."""
        return self._images.squareMm if self._squareMm is None else self._squareMm

    def setCheckerSize(self, squareMm: float) -> None:
        """Side of the squares, mm."""
        exhaust(self.setCheckerSizeSteps(squareMm))

    def setCheckerSizeSteps(self, squareMm: float) -> Steps[None]:
        """As :meth:`setCheckerSize`, in small pieces."""
        if not squareMm > 0:
            raise ValueError(f"the squares of a checkerboard have a side above 0 mm, received {squareMm}")
        self._squareMm = float(squareMm)
        if self._kind == "checkerboard":
            yield from self.showSteps("checkerboard")

    # ------------------------------------------------------------------------------------------- views

    def _apply(self, kind: str, image: NDArray | None) -> None:
        """Change the scene; short, and not interrupted."""
        self._changing = True
        try:
            self._clearKind()
            if self._memory is None:
                self._startShowing()
            self._views = self._memory.showSlices()
            self._kind = kind
            result, moving = self._result, self._images.movingNode()
            other = moving
            if self._after and kind not in COMPUTED:
                other = result.warped if image is None else self._images.computedNode(image, result.moving)
            background, foreground, opacity = result.fixed, None, 1.0
            if kind in ("blend", "flicker"):
                foreground, opacity = other, self._opacity["blend"] if kind == "blend" else 1.0
            elif kind == "checkerboard":
                background = self._images.computedNode(image, result.fixed)
            elif kind == "difference":
                background = self._images.computedNode(image)
                reach, colors = (-DIFFERENCE_REACH, DIFFERENCE_REACH), evenColors(BLUE_WHITE_RED)
                self._overlay = OverlayDisplay(background, colors, reach, _("Difference"), 5, "%+.2f")
            elif not self._after:
                background = moving
            elif kind in DEFORMATION:
                background = other
                initial = np.array(result.report.get("initial_matrix_ras") or np.eye(4), dtype=np.float64)
                self._deformation = DeformationDisplay(kind, result.transform, result.fixed, initial, self._planes3d())
            else:
                foreground, opacity = getattr(result, kind), self._opacity[kind]
                self._overlay = self._figures(kind, foreground)
            for view in self._views:
                view.setLayers(background, foreground, opacity)
            self._segmentations.show(result, self._after)
            if self._overlay is not None:
                self._overlay.refresh()
            self._used = tuple(
                node for node in (result.fixed, result.moving, background, foreground, other) if node is not None
            ) + ((result.transform,) if kind in DEFORMATION else ())
            self._observe()
            if kind == "flicker":
                self._startFlicker()
        finally:
            self._changing = False

    def _figures(self, kind: str, volume: Any) -> OverlayDisplay:
        if kind == "jacobian":
            return OverlayDisplay(volume, jacobianColors(), JACOBIAN_RANGE, _("Jacobian"), 6, "%.1f")
        if kind == "regularity":
            return OverlayDisplay(volume, evenColors(DARK_TO_BRIGHT), (0.0, 1.0), _("Smoothness weight"), 5, "%.2f")
        highest = float(f"{max(highest99(slicer.util.arrayFromVolume(volume)), 0.1):.1e}")
        return OverlayDisplay(volume, evenColors(DARK_TO_BRIGHT), (0.0, highest), _("Uncertainty, mm"), 5, "%.2f")

    def _startShowing(self) -> None:
        """Remember the views, and turn those to the images that show something else."""
        self._memory = ViewMemory()
        self._views = self._memory.showSlices()
        known = (self._result.fixed, self._result.moving, self._result.warped)
        new = [view for view in self._views if not view.shows(known)]
        for view in new:
            self._memory.keepPlane(view)
            view.setLayers(self._result.fixed, None, 1.0)
            view.logic.FitSliceToBackground()
            view.logic.SnapSliceOffsetToIJK()
        self._turnCameras = len(new) == len(self._views)

    def _planes3d(self) -> list[Any]:
        """Let the 3D views show the planes of the slice views; the slice nodes, none without a 3D view."""
        if not threeDViews():
            return []
        for view in self._views:
            view.node.SetSliceVisible(True)
        return [view.node for view in self._views]

    def _lookAtDeformation(self) -> None:
        """Once after the first deformation appears: turn the 3D views to it, unless the user has set them up."""
        if self._turnCameras:
            self._turnCameras = False
            for widget in threeDViews():
                self._memory.keepCamera(widget)
                lookFromCorner(widget)

    def _clearKind(self) -> None:
        """Take away what only the current kind has put into the scene, but not what the views show."""
        if self._timer is not None:
            self._timer.stop()
            self._timer.disconnect("timeout()", self._flick)
            self._timer = None
        if self._deformation is not None:
            self._deformation.remove()
            self._deformation = None
        if self._overlay is not None:
            self._overlay.restore()
            self._overlay = None

    def _startFlicker(self) -> None:
        self._timer = qt.QTimer()
        self._timer.setInterval(self._flickerMs)
        self._timer.connect("timeout()", self._flick)
        self._timer.start()

    def _flick(self) -> None:
        for view in self._views:
            if inScene(view.composite):
                view.composite.SetForegroundOpacity(0.0 if view.composite.GetForegroundOpacity() > 0.5 else 1.0)

    # ------------------------------------------------------------------------------------------- the scene's life

    def _observe(self) -> None:
        if self._observers:
            return
        scene = slicer.mrmlScene
        self._observers = [
            scene.AddObserver(scene.StartCloseEvent, self._onSceneClose),
            scene.AddObserver(scene.NodeRemovedEvent, self._onNodeRemoved),
        ]

    def _stopObserving(self) -> None:
        for tag in self._observers:
            slicer.mrmlScene.RemoveObserver(tag)
        self._observers.clear()

    def _onSceneClose(self, caller: Any, event: str) -> None:
        self.hide()

    def _onNodeRemoved(self, caller: Any, event: str) -> None:
        if not self._changing and not all(inScene(node) for node in self._used):
            self.hide()
