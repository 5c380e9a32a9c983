"""Shows a scripted module offscreen: ``python -m Testing.host --module path/to/Module.py --screenshot out.png``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from Testing.system_libraries import missing_packages


def main() -> int:
    """0 when the module loaded and its test passed, 1 when something raised, 2 when the machine lacks libraries."""
    parser = argparse.ArgumentParser(prog="python -m Testing.host", description=__doc__)
    parser.add_argument("--module", type=Path, required=True, help="the module's Python file")
    parser.add_argument("--screenshot", type=Path, help="write a picture of the module's widget to this PNG file")
    parser.add_argument("--dark", action="store_true", help="use the dark palette")
    parser.add_argument("--expand", action="store_true", help="open all collapsed sections")
    parser.add_argument("--test", action="store_true", help="run the module's ScriptedLoadableModuleTest")
    parser.add_argument("--volume", type=Path, action="append", default=[], help="load this image first")
    options = parser.parse_args()
    missing = missing_packages() if sys.platform.startswith("linux") else []
    if missing:
        print(f"The host needs system libraries. Run: sudo apt install {' '.join(missing)}", file=sys.stderr)
        return 2
    return show(options)


def show(options: argparse.Namespace) -> int:
    """Load the module and do what the options say."""
    from Testing.host.session import boot

    host = boot()
    import ctk
    import slicer.util

    host.setDark(options.dark)
    for path in options.volume:
        slicer.util.loadVolume(str(path))
    loaded = host.loadModule(options.module)
    if options.expand and loaded.widget is not None:
        for kind in (ctk.ctkCollapsibleButton, ctk.ctkCollapsibleGroupBox):
            for section in loaded.parent.findChildren(kind):
                section.collapsed = False
    if options.screenshot is not None:
        print(host.screenshot(loaded.parent, options.screenshot))
    failed = False
    if options.test:
        try:
            host.runModuleTest(loaded)
        except Exception as error:  # the test's failure is this command's result
            sys.excepthook(type(error), error, error.__traceback__)
        print("failed" if host.uncaught else "passed")
    failed = bool(host.uncaught)
    host.exitApplication()
    return int(failed or bool(host.uncaught))


if __name__ == "__main__":
    sys.exit(main())
