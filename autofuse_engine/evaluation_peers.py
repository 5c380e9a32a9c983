"""Methods of other packages for an evaluation: which are installed, and one made ready."""

from __future__ import annotations

from autofuse_engine.errors import InputError
from autofuse_engine.evaluation_configs import PEER_KINDS, MethodSpec
from autofuse_engine.evaluation_methods import Method
from autofuse_engine.peer_elastix import ElastixMethod
from autofuse_engine.peer_packages import installed_version
from autofuse_engine.peer_syn import SynMethod
from autofuse_engine.peer_voxelmorph import VoxelMorphMethod


def available_peers() -> dict[str, str | None]:
    """Version of the package of each peer by the name of the method, None where it is not installed."""
    return {str(kind): installed_version(kind) for kind in PEER_KINDS}


def peer_method(spec: MethodSpec, *, seed: int = 0, threads: int | None = None, device: str = "auto") -> Method:
    """Make a peer ready: its package is loaded here, so that an absent one is told before any pair.

    Args:
        spec: of one of :data:`PEER_KINDS`.
        seed: of whatever the peer draws at random.
        threads: of a peer that computes on the CPU by itself; None leaves the number to it. VoxelMorph computes with
            torch and takes torch's. SyN takes what the environment variable ``ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS``
            says when its package is first used in a process; it is set here.
        device: of VoxelMorph.

    Raises:
        InputError: ``peer-not-installed``, or ``peer-weights-missing`` where VoxelMorph has none.
        FileError: ``peer-weights-invalid``.
    """
    if spec.kind == "syn":
        return SynMethod(spec.name, metric=spec.metric, seed=seed, threads=threads)
    if spec.kind == "elastix":
        return ElastixMethod(spec.name, seed=seed, threads=threads)
    if spec.kind == "voxelmorph":
        if spec.model is None:
            raise InputError(
                "peer-weights-missing",
                f"The method {spec.name} has no weights: the package voxelmorph comes without any.",
                "Train them with Testing/benchmarks/train_voxelmorph_peer.py, and write voxelmorph@weights=FILE.",
            )
        return VoxelMorphMethod(spec.name, spec.model, device=device)
    raise ValueError(f"a peer is one of {', '.join(PEER_KINDS)}, received {spec.kind!r}")
