"""What a person at a terminal sees: bars, lines, tables, also on consoles with few letters."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import pytest

from autofuse_engine import cli
from autofuse_engine.events import Progress, Warning
from autofuse_engine.terminal import ProgressDisplay, print_result, scaled


def test_output_survives_a_console_with_a_small_code_page(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="cp1252", errors="strict"))
    assert cli.main(["networks"]) == 0
    print("頭部")
    sys.stdout.flush()
    assert b"8,748,310" in raw.getvalue()
    assert raw.getvalue().endswith(b"??" + os.linesep.encode())


def test_progress_of_a_part_is_scaled_into_the_whole_and_other_events_pass() -> None:
    seen: list[Any] = []
    report = scaled(seen.append, 0.25, 0.75)
    report(Progress(stage="check", fraction=0.5, text="x"))
    report(Warning(code="a", text="b"))
    assert seen == [Progress(stage="check", fraction=0.5, text="x"), Warning(code="a", text="b")]
    report(Progress(stage="check", fraction=1.0))
    assert seen[-1].fraction == 0.75


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_and_a_log_file_one_line_a_stage() -> None:
    events = [Progress(stage="check", fraction=0.0), Progress(stage="refinement", fraction=0.3, text="level 1"),
              Progress(stage="refinement", fraction=0.6, text="level 2"),
              Warning(code="w", text="careful [x]")]  # fmt: skip
    terminal, log = Terminal(), io.StringIO()
    for stream in (terminal, log):
        with ProgressDisplay(quiet=False, stream=stream) as display:
            for event in events:
                display(event)
    assert [line.split("] ")[-1] for line in log.getvalue().splitlines()[:2]] == ["check", "refinement"]
    assert "careful [x]" in log.getvalue()
    assert "refinement" in terminal.getvalue()
    assert "careful [x]" in terminal.getvalue()
    assert "\x1b[" in terminal.getvalue()


@pytest.mark.parametrize(("asked", "shown"), [("auto", True), ("brain", False)])
def test_the_reason_for_a_model_is_shown_where_the_choice_was_automatic(
    asked: str, shown: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    choice = {"asked": asked, "used": "brain", "reason": "it fits"}
    print_result({"model_choice": choice, "provenance": {"model": "brain"}}, {}, "a registered to b")
    assert ("it fits" in capsys.readouterr().out) is shown
