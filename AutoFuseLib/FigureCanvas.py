"""A white sheet of pixels with pictures, letters and colour bars, saved as PNG; drawn by VTK, without a window.

Letters come from VTK's FreeType: it is the same on every computer and needs neither a display nor Qt's fonts.
"""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache
from typing import Literal

import numpy as np
import vtk
from numpy.typing import NDArray
from vtk.util import numpy_support

from AutoFuseLib.Steps import Steps

Color = tuple[float, float, float]
BLACK: Color = (0.0, 0.0, 0.0)
GREY: Color = (0.4, 0.4, 0.4)
WHITE: Color = (1.0, 1.0, 1.0)
_DPI = 72
_LINES_A_PIECE = 96
_DIFFERENCE_TO_THE_LEFT = 1
"""PNG's filter of that name, per line: it packs smooth pictures well."""


class Canvas:
    """Pixels (height, width, 3), uint8; x grows to the right and y downwards from the upper left corner."""

    def __init__(self, width: int, height: int) -> None:
        self.pixels = np.full((height, width, 3), 255, np.uint8)

    def picture(self, values: NDArray, x: int, y: int) -> None:
        """Put colours (rows, columns, 3), 0..1, with their upper left corner at a place; they must fit the sheet."""
        rows, columns = values.shape[:2]
        self.pixels[y : y + rows, x : x + columns] = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)

    def text(
        self,
        text: str,
        x: float,
        y: float,
        size: int,
        *,
        color: Color = BLACK,
        bold: bool = False,
        align: Literal["left", "center", "right"] = "left",
        halo: Color | None = None,
        upwards: bool = False,
    ) -> None:
        """Write one line; what would leave the sheet is cut off.

        Args:
            text: letters that the font lacks are left out.
            x: of its left end, middle or right end.
            y: of the line that the letters stand on.
            size: of the font, pixels.
            color: of the letters.
            bold: or not.
            align: what ``x`` means; for a text that is written upwards, what ``y`` means.
            halo: colour of a rim that makes letters stand out from a picture, or None.
            upwards: from below to above; then ``x`` is the line that the letters stand on.
        """
        mask = _letters(text, size, bold)
        if mask.size == 0:
            return
        descent = _descent(size, bold)
        shift = {"left": 0, "center": mask.shape[1] / 2, "right": mask.shape[1]}[align]
        left, top = round(x - shift), round(y + descent - mask.shape[0])
        if upwards:
            left, top = round(x + descent - mask.shape[0]), round(y + shift - mask.shape[1])
            mask = np.rot90(mask)
        if halo is not None:
            rim = np.pad(mask, 2)
            spread = [np.roll(rim, step, axis=(0, 1)) for step in ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (-1, -1))]
            self._blend(np.maximum.reduce([rim, *spread]), left - 2, top - 2, halo)
        self._blend(mask, left, top, color)

    def colorBar(self, colors: NDArray, x: int, y: int, width: int, height: int) -> None:
        """A horizontal bar of colours (N, 3), 0..1, with a thin frame."""
        chosen = np.asarray(colors)[np.linspace(0, len(colors) - 1, width).round().astype(int)]
        self.picture(np.broadcast_to(chosen, (height, width, 3)), x, y)
        frame = self.pixels[y : y + height, x : x + width]
        frame[0] = frame[-1] = 60
        frame[:, 0] = frame[:, -1] = 60

    def disc(self, x: float, y: float, radius: float, color: Color) -> None:
        """A filled circle around a place."""
        reach = int(np.ceil(radius)) + 1
        rows, columns = np.indices((2 * reach + 1, 2 * reach + 1)) - reach
        mask = np.clip(radius + 0.5 - np.hypot(rows, columns), 0, 1)
        self._blend(mask, round(x) - reach, round(y) - reach, color)

    def pngSteps(self) -> Steps[bytes]:
        """The sheet as the content of a PNG file (W3C specification, third edition), packed a few lines at a time."""
        height, width, _ = self.pixels.shape
        packer = zlib.compressobj(6)
        packed: list[bytes] = []
        for start in range(0, height, _LINES_A_PIECE):
            lines = self.pixels[start : start + _LINES_A_PIECE]
            differences = lines.copy()
            differences[:, 1:] -= lines[:, :-1]
            filtered = np.empty((len(lines), 1 + 3 * width), np.uint8)
            filtered[:, 0] = _DIFFERENCE_TO_THE_LEFT
            filtered[:, 1:] = differences.reshape(len(lines), -1)
            packed.append(packer.compress(filtered.tobytes()))
            yield
        packed.append(packer.flush())
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", b"".join(packed)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )

    def _blend(self, mask: NDArray, left: int, top: int, color: Color) -> None:
        rows, columns = mask.shape
        height, width, _ = self.pixels.shape
        up, down = max(top, 0), min(top + rows, height)
        first, last = max(left, 0), min(left + columns, width)
        if up >= down or first >= last:
            return
        part = self.pixels[up:down, first:last]
        share = mask[up - top : down - top, first - left : last - left, None]
        part[:] = np.rint(part * (1 - share) + share * 255 * np.array(color)).astype(np.uint8)


def textWidth(text: str, size: int, bold: bool = False) -> int:
    """Pixels that a line takes."""
    return _letters(text, size, bold).shape[1]


def wrapped(text: str, size: int, width: int) -> list[str]:
    """Lines of whole words that are at most so many pixels wide; a longer word has a line of its own."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and textWidth(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


@lru_cache(maxsize=512)
def _letters(text: str, size: int, bold: bool) -> NDArray[np.float64]:
    """Coverage (rows, columns) in 0..1; the height depends on the size alone. Empty for a text without letters."""
    style = vtk.vtkTextProperty()
    style.SetFontFamilyToArial()
    style.SetFontSize(size)
    style.SetBold(bold)
    style.SetColor(1.0, 1.0, 1.0)
    image, used = vtk.vtkImageData(), [0, 0]
    backend = vtk.vtkTextRenderer.FreeType  # the other one takes dollar signs for formulas
    renderer = vtk.vtkTextRenderer.GetInstance()
    if not text.strip() or not renderer.RenderString(style, text, image, used, _DPI, backend):
        return np.zeros((0, 0))
    width, height, _ = image.GetDimensions()
    rgba = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)
    return rgba[: used[1], : used[0], 3][::-1] / 255.0


@lru_cache(maxsize=32)
def _descent(size: int, bold: bool) -> int:
    """How many rows of :func:`_letters` lie below the line that the letters stand on."""
    mask = _letters("H", size, bold)
    return int(mask.shape[0] - 1 - np.nonzero(mask.max(axis=1) > 0.5)[0].max())
