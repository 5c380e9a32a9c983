"""Arrays between VTK and the ``.npy`` files that travel to and from the worker, slab by slab."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npyFormat
from numpy.typing import NDArray
from vtk.util import numpy_support

from autofuse_engine.errors import FileError
from AutoFuseLib.Geometry import shapeOf
from AutoFuseLib.Steps import Steps

_BYTES_A_PIECE = 4 << 20
_LEAST_ROOM_BYTES = 1 << 16
_NO_ROOM = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def arrayOf(imageData: Any) -> NDArray:
    """The voxels of a vtkImageData as (k, j, i), or (k, j, i, components) of a vector image; not a copy."""
    scalars = imageData.GetPointData().GetScalars()
    values = numpy_support.vtk_to_numpy(scalars)
    components = scalars.GetNumberOfComponents()
    return values.reshape((*shapeOf(imageData), components) if components > 1 else shapeOf(imageData))


def slabs(shape: tuple[int, ...], bytesPerValue: int) -> Iterator[slice]:
    """Ranges along the first axis, each of a few megabytes, at least one slice."""
    bytesPerSlice = max(1, int(np.prod(shape[1:], dtype=np.int64)) * bytesPerValue)
    count = max(1, _BYTES_A_PIECE // bytesPerSlice)
    for start in range(0, shape[0], count):
        yield slice(start, min(shape[0], start + count))


def writeArraySteps(path: Path, shape: tuple[int, ...], dtype: Any, parts: Iterable[NDArray | None]) -> Steps[None]:
    """Write a ``.npy`` file in native byte order; nothing stays under ``path`` when it fails or is given up.

    Args:
        path: the file; its folder exists.
        shape: (k, j, i), or (k, j, i, components).
        dtype: of the file; parts are converted.
        parts: slabs along k, first to last; None where a step of work left nothing to write.

    Raises:
        FileError: ``disk-full`` or ``output-not-writable``.
    """
    dtype = np.dtype(dtype).newbyteorder("=")
    complete = False
    try:
        with path.open("wb") as file:
            header = {"descr": npyFormat.dtype_to_descr(dtype), "fortran_order": False, "shape": tuple(shape)}
            npyFormat.write_array_header_1_0(file, header)
            for part in parts:
                if part is not None:
                    file.write(np.ascontiguousarray(part, dtype=dtype).data)
                yield
        complete = True
    except OSError as error:
        raise writeError(path, error) from error
    finally:
        if not complete:
            path.unlink(missing_ok=True)


def readArray(path: Path, components: int = 1) -> NDArray:
    """Map a ``.npy`` file of shape (k, j, i), or (k, j, i, components), into memory.

    Raises:
        FileError: ``file-not-found`` or ``file-not-readable``.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise FileError("file-not-found", f"There is no file {path}.", "Run the registration again.") from error
    except (OSError, ValueError) as error:
        raise FileError(
            "file-not-readable", f"The file {path} does not hold an array ({error}).", "Run the registration again."
        ) from error
    wanted = "(k, j, i)" if components == 1 else f"(k, j, i, {components})"
    if array.ndim != (3 if components == 1 else 4) or (components > 1 and array.shape[3] != components):
        raise FileError(
            "file-not-readable",
            f"The file {path} has the shape {array.shape} instead of {wanted}.",
            "Run the registration again.",
        )
    return array


def writeError(path: Path, cause: BaseException | None) -> FileError:
    """The error for a failed write to ``path``; without a cause that says so, a full disk is recognised by its room."""
    full = isinstance(cause, OSError) and cause.errno in _NO_ROOM
    if not full and path.parent.is_dir():
        full = shutil.disk_usage(path.parent).free < _LEAST_ROOM_BYTES
    if full:
        return FileError(
            "disk-full",
            f"The disk ran full while {path} was written.",
            "Free some space or choose another disk; nothing was kept.",
        )
    return FileError(
        "output-not-writable",
        f"The file {path} cannot be written.",
        "Check that the folder exists and allows writing, and that no other program holds the file open.",
    )
