"""The first words of a worker, and what it says where its packages are missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autofuse_engine.events import PROTOCOL, Metric, Progress, from_json_line, greeting, read_greeting, to_json_line

ROOT = Path(__file__).resolve().parents[2]


def test_a_greeting_that_went_over_the_wire_gives_protocol_and_process() -> None:
    job_id, event = from_json_line(to_json_line(greeting("3.1.4", 4711), 0))
    assert job_id == 0
    assert read_greeting(event) == (PROTOCOL, 4711)


@pytest.mark.parametrize(
    "event",
    [
        Progress(stage="ready", fraction=1.0, text="autofuse 0.1, protocol 1"),
        Progress(stage="check", fraction=1.0, text="protocol 1, process 5"),
        Metric(stage="ready", step=1),
    ],
)
def test_other_events_are_no_greeting(event: Progress | Metric) -> None:
    with pytest.raises(ValueError, match="not the greeting"):
        read_greeting(event)


def test_fields_of_a_newer_worker_are_ignored() -> None:
    line = '{"id": 3, "event": "progress", "stage": "check", "fraction": 0.25, "colour": "green"}'
    assert from_json_line(line) == (3, Progress(stage="check", fraction=0.25))


@pytest.mark.parametrize(
    "line",
    ["", "[]", "7", "null", '{"id": 1}', '{"id": 1, "event": "progress"}', '{"id": "x", "event": "result"}',
     '{"event": "metric", "stage": "a", "step": 1}', '{"id": 1, "event": ["result"]}', "[" * 100_000],
)  # fmt: skip
def test_lines_that_are_no_events_are_refused(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - int() words its own
        from_json_line(line)


@pytest.mark.parametrize(
    ("body", "words"),
    [("raise ImportError('no such wheel')", "no such wheel"), ("raise OSError('c10.dll is missing')", "c10.dll")],
)
def test_a_worker_without_torch_greets_says_what_is_missing_and_ends(tmp_path: Path, body: str, words: str) -> None:
    (tmp_path / "torch.py").write_text(body, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "autofuse_engine", "worker"],
        input=b'{"id": 1, "job": "devices"}\n',
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        timeout=60,
        check=False,
    )
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first["stage"] == "ready"
    assert (second["id"], second["event"], second["code"]) == (0, "error", "packages-missing")
    assert words in second["text"]
    assert "torch" in second["hint"]
    assert done.returncode == 1
    assert b"Traceback" in done.stderr
