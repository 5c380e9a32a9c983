"""A training in a process of its own, for tests that kill it: ``CONFIG RUN MOMENT``; says on stdout where it is.

``MOMENT`` is ``none``, or the number of the checkpoint file while whose writing the process waits to be killed: the
file is then half written.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch

from autofuse_engine import training_state
from autofuse_engine.events import Event, Metric
from autofuse_engine.training import train
from autofuse_engine.training_configs import TrainingConfig


def say(text: str) -> None:
    print(text, flush=True)


def wait_in_checkpoint(number: int) -> None:
    count = 0
    really = os.fsync

    def fsync(handle: int) -> None:
        nonlocal count
        count += 1
        if count == number:
            os.ftruncate(handle, os.fstat(handle).st_size // 2)
            say("in checkpoint")
            time.sleep(600)
        really(handle)

    training_state.os.fsync = fsync  # type: ignore[assignment]


def main(config: str, run: str, moment: str) -> None:
    torch.set_num_threads(1)
    if moment != "none":
        wait_in_checkpoint(int(moment))

    def report(event: Event) -> None:
        if isinstance(event, Metric) and event.stage == "training":
            say(f"step {event.step}")

    content = json.loads(Path(config).read_text(encoding="utf-8"))
    train(TrainingConfig.from_dict(content), run, resume=True, report=report)
    say("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
