"""What the registration module can do without a widget: register, also from a script; find results and models."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from autofuse_engine import catalog
from autofuse_engine.errors import CancelledError, InputError
from autofuse_engine.events import Event, Result
from AutoFuseLib import Dependencies, WorkerProcess
from AutoFuseLib.ResultNodes import ResultNodes

from . import Inputs, Outputs, Repetition
from .ParameterNode import AutoFuseRegistrationParameterNode
from .Run import Run, State

_TURN_S = 0.005


class AutoFuseRegistrationLogic(ScriptedLoadableModuleLogic):
    """Registers volumes of the scene.

    From a script, with the nodes ``fixed`` and ``moving``::

        logic = slicer.util.getModuleLogic("AutoFuseRegistration")
        result = logic.register(fixed, moving)
        print(result.report["verdict"]["text"])
        segmentation.SetAndObserveTransformNodeID(result.transform.GetID())

    Every parameter of :class:`AutoFuseRegistrationParameterNode` can be given by name::

        result = logic.register(ct, mr, similarity=Similarity.MIND, initialAlignment=InitialAlignment.RIGID)
    """

    def __init__(self, worker: Any = None) -> None:
        """
        Args:
            worker: runs the jobs; None for the worker process that both modules share. Tests give another one.
        """
        ScriptedLoadableModuleLogic.__init__(self)
        self.run: Run | None = None
        self._worker = worker
        self._ownsPackages = worker is None
        self._origins: dict[str, Repetition.Origin] = {}

    # ------------------------------------------------------------------------------------------------ for the widget

    @property
    def worker(self) -> Any:
        """What runs the jobs; made on first use."""
        if self._worker is None:
            self._worker = WorkerProcess.sharedWorker()
        return self._worker

    def getParameterNode(self) -> AutoFuseRegistrationParameterNode:
        """The choices of the current scene."""
        return AutoFuseRegistrationParameterNode(super().getParameterNode())

    def missingPackages(self) -> list[str]:
        """Python packages that must be installed before the first run."""
        return Dependencies.missing() if self._ownsPackages else []

    def start(self, parameters: AutoFuseRegistrationParameterNode, listener: Callable[[Run], None]) -> Run:
        """Begin a registration; it goes on by itself in turns of the event loop.

        Args:
            parameters: the choices; outputs that are made are entered there at the end.
            listener: called after every change of the run.

        Raises:
            AutoFuseError: if a choice is missing or cannot be used, or if another registration runs.
        """
        self._requireIdle()
        inputs, outputs = Inputs.gather(parameters), Outputs.requested(parameters)
        origin = Repetition.Origin.of(inputs)

        def told(run: Run) -> None:
            if run.state is State.DONE:
                _enterOutputs(parameters, run.result)
                self._origins[run.result.transform.GetID()] = origin
            listener(run)

        self.run = Run(self.worker, inputs, outputs, told)
        return self.run

    def repeat(self, result: ResultNodes, smoothness: float, listener: Callable[[Run], None]) -> Run:
        """Begin the registration of a result once more, with another smoothness, into the same nodes.

        The result stays as it is until the new one is complete.

        Args:
            result: made by this object since the scene was opened.
            smoothness: 0.1 to 10.
            listener: called after every change of the run.

        Raises:
            InputError: ``repeat-impossible`` where :meth:`reasonNotToRepeat` says why, ``already-running``.
        """
        self._requireIdle()
        if reason := self.reasonNotToRepeat(result):
            raise InputError("repeat-impossible", reason, _("Register again."))
        origin = self._origins[result.transform.GetID()]
        self.run = Run(self.worker, *Repetition.repeated(result, origin, smoothness), listener)
        return self.run

    def reasonNotToRepeat(self, result: ResultNodes) -> str:
        """Why a result cannot be computed anew, as a sentence; empty if it can."""
        return Repetition.reasonNot(result, self._origins.get(result.transform.GetID() or ""))

    def forget(self) -> None:
        """The scene goes, and what its results came from."""
        self.stop()
        self._origins.clear()

    def _requireIdle(self) -> None:
        if self.run is not None and self.run.active:
            raise InputError(
                "already-running",
                _("A registration is already running."),
                _("Wait for its end, or cancel it first."),
            )

    def stop(self) -> None:
        """Drop the current run without a word; for the end of the scene or of the module."""
        if self.run is not None:
            self.run.abandon()
            self.run = None

    def askDevices(self, answer: Callable[[list[dict[str, Any]]], None]) -> None:
        """Ask the worker which devices there are; nothing is answered if it does not know.

        Args:
            answer: receives ``{"id", "name", "free_gib"}`` of each.
        """

        def answered(event: Event) -> None:
            if isinstance(event, Result):
                answer(list(event.report["devices"]))

        self.worker.submit("devices", {}, lambda event: None, answered)

    @staticmethod
    def models() -> list[catalog.CatalogEntry]:
        """The models at hand, damaged ones included."""
        return catalog.list_models()

    @staticmethod
    def results() -> list[ResultNodes]:
        """The results in the scene, the last one first."""
        nodes = slicer.util.getNodesByClass("vtkMRMLGridTransformNode")
        found = [ResultNodes.fromTransform(node) for node in nodes]
        return [result for result in reversed(found) if result is not None]

    # ------------------------------------------------------------------------------------------------ for scripts

    def register(self, fixed: Any, moving: Any, **choices: Any) -> ResultNodes:
        """Register two volumes and wait for the result; the window stays responsive.

        Args:
            fixed: the volume that stays.
            moving: the volume that is warped onto it.
            choices: any other parameter by name; those that are not given have their defaults.

        Returns:
            The nodes of the result; its ``report`` has every figure.

        Raises:
            AutoFuseError: if the input cannot be used, or the registration failed; code, sentence and cure say why.
            CancelledError: if somebody cancelled it.
            ValueError: if a parameter does not exist.
        """
        missing = self.missingPackages()
        if missing:
            raise InputError(
                "packages-missing",
                _("Python packages are missing: {names}.").format(names=", ".join(missing)),
                _("Press Register once in the module AutoFuse Registration, which offers to install them."),
            )
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        node.SetName("AutoFuse registration of a script")
        node.SetHideFromEditors(True)
        node.SetSaveWithScene(False)
        slicer.mrmlScene.AddNode(node)
        try:
            parameters = AutoFuseRegistrationParameterNode(node)
            parameters.fixedVolume, parameters.movingVolume = fixed, moving
            for name, value in choices.items():
                parameters.setValue(name, value)
            run = self.start(parameters, lambda run: None)
            while run.active:
                slicer.app.processEvents()
                time.sleep(_TURN_S)
        finally:
            slicer.mrmlScene.RemoveNode(node)
        if run.state is State.DONE:
            return run.result
        raise run.error if run.error is not None else CancelledError(_("The registration was cancelled."))


def _enterOutputs(parameters: AutoFuseRegistrationParameterNode, result: ResultNodes) -> None:
    with slicer.util.NodeModify(parameters):
        for kind in Outputs.KINDS:
            node = getattr(result, kind.role)
            if node is not None:
                setattr(parameters, kind.parameter, node)
