"""Test-only host that runs unmodified Slicer scripted modules on PySide6 and the real MRML libraries of slicer-core.

``python -m Testing.host`` shows one module, the fixtures in ``Testing.host.fixtures`` serve pytest, and
``Testing.host.session.boot()`` starts it from anywhere else. Importing this package only sets environment variables.
"""

import os
import sys

if "PySide6" in sys.modules and os.environ.get("PYSIDE6_OPTION_PYTHON_ENUM") != "2":
    raise RuntimeError("PySide6 was imported before Testing.host: import the host first, in a process of its own.")

os.environ["PYSIDE6_OPTION_PYTHON_ENUM"] = "2"  # enums compare and compute as PythonQt's plain ints
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("MPLBACKEND", "Agg")  # else matplotlib would find the patched Qt and use it
