"""The real command line in a process of its own, with a registration that takes its time; for tests of Ctrl-C.

The first argument says how it behaves: ``polite`` polls for cancellation, ``deaf`` does not.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from fake_registration import fake_register

import autofuse_engine.commands as commands
from autofuse_engine.cli import main
from autofuse_engine.data.volume import Volume
from autofuse_engine.errors import CancelledError
from autofuse_engine.registration import RegistrationResult


def staged_register(fixed: Volume, moving: Volume, *, cancelled: Any, **more: Any) -> RegistrationResult:
    """See the module."""
    print("registering", flush=True)
    for _ in range(1000):
        if cancelled() and behaviour == "polite":
            raise CancelledError
        time.sleep(0.03)
    return fake_register(fixed, moving, cancelled=cancelled, **more)


if __name__ == "__main__":
    behaviour = sys.argv[1]
    commands.register = staged_register  # pyright: ignore[reportAttributeAccessIssue]
    sys.exit(main(sys.argv[2:]))
