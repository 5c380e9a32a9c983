"""``python -m autofuse_engine`` is the command ``autofuse``."""

import sys

from autofuse_engine.cli import main

if __name__ == "__main__":
    sys.exit(main())
