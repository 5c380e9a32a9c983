"""Look for the system libraries that the rendering and widget tests need, before a missing one crashes them.

A library that is absent ends 3D Slicer's and Qt's Python modules with a segmentation fault instead of an error.
As root on Debian or Ubuntu the missing packages are installed, elsewhere one line names them.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGE_OF_LIBRARY = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libfontconfig.so.1": "libfontconfig1",
    "libdbus-1.so.3": "libdbus-1-3",
}
FONT_FOLDERS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"))
FONT_PACKAGE = "fonts-dejavu-core"


def missing_packages() -> list[str]:
    """Debian names of the packages whose library cannot be loaded or whose font is absent."""
    missing = [package for library, package in PACKAGE_OF_LIBRARY.items() if not _loads(library)]
    if not any(path.name.startswith("DejaVuSans") for folder in FONT_FOLDERS for path in folder.rglob("*.ttf")):
        missing.append(FONT_PACKAGE)
    return missing


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def main() -> int:
    """0 where everything is there, else 1 after one line that says what to install."""
    if not sys.platform.startswith("linux"):
        return 0
    missing = missing_packages()
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"Installing system libraries for the tests: {' '.join(missing)}", file=sys.stderr)
        install = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update"], install):
            done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
            if done.returncode != 0:
                print(f"'{' '.join(command)}' failed with exit code {done.returncode}.", file=sys.stderr)
                break
        missing = missing_packages()
    if missing:
        print(f"The tests need system libraries. Run: sudo apt install {' '.join(missing)}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
