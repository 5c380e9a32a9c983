"""Cuts what arrives from a pipe, in pieces of any size, into lines of text."""

from __future__ import annotations

LIMIT_BYTES = 64 * 1024 * 1024
SHOWN_BYTES = 4096


class LineBuffer:
    """Holds the beginning of a line until its end arrives."""

    def __init__(self, limitBytes: int = LIMIT_BYTES) -> None:
        self._limit = limitBytes
        self._part = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> list[str]:
        """The lines that this piece completes, without line ends.

        A line beyond the limit is cut to its first 4 KiB, so that a program gone wild cannot fill the memory.
        """
        ends = data.split(b"\n")
        lines = []
        for piece in ends[:-1]:
            lines += self._complete(piece)
        self._hold(ends[-1], lines)
        return lines

    def rest(self) -> str:
        """The last line if it has no end, once nothing follows."""
        text = "" if self._skipping else _text(self._part)
        self._part, self._skipping = bytearray(), False
        return text

    def _complete(self, piece: bytes) -> list[str]:
        if self._skipping:
            self._skipping = False
            return []
        whole, self._part = self._part + piece, bytearray()
        return [_text(whole if len(whole) <= self._limit else whole[:SHOWN_BYTES])]

    def _hold(self, piece: bytes, lines: list[str]) -> None:
        if self._skipping:
            return
        self._part += piece
        if len(self._part) > self._limit:
            lines.append(_text(self._part[:SHOWN_BYTES]))
            self._part, self._skipping = bytearray(), True


def _text(line: bytes | bytearray) -> str:
    return bytes(line).decode("utf-8", errors="replace").rstrip("\r")
