"""Processes, timers, settings and environments, as they were observed in a real Slicer 5.13."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

ECHO = "import sys\nfor line in sys.stdin: print(line.strip()[::-1], flush=True)\nsys.exit(3)"


@pytest.fixture
def process(host):
    import qt

    running = qt.QProcess()
    yield running
    running.kill()
    running.waitForFinished(5000)


def test_a_child_that_returns_3_has_exit_code_3_and_a_normal_exit(process):
    process.start(sys.executable, ["-c", "import sys; sys.exit(3)"])
    assert process.waitForFinished(20000)
    assert (process.state(), process.exitCode(), process.exitStatus()) == (0, 3, 0)


def test_lines_go_in_as_bytes_or_text_and_come_out_as_bytes(process):
    import qt

    process.start(sys.executable, ["-u", "-c", ECHO])
    assert process.waitForStarted(20000)
    assert process.processId() > 0
    for line in (b"bytes\n", "text\n", qt.QByteArray(b"array\n")):
        process.write(line)
    process.closeWriteChannel()
    assert process.waitForFinished(20000)
    assert process.canReadLine()
    assert process.readLine().data() == b"setyb\n"
    assert process.readAllStandardOutput().data() == b"txet\nyarra\n"
    assert process.exitCode() == 3


def test_the_event_loop_reports_output_and_the_end(host, process, wait_until):
    heard = []
    process.readyReadStandardOutput.connect(lambda: heard.append(process.readAllStandardOutput().data()))
    assert process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: heard.append((code, status)))
    process.start(sys.executable, ["-c", "print('seen')"])
    wait_until(lambda: heard and isinstance(heard[-1], tuple), timeout=20)
    assert b"".join(heard[:-1]).strip() == b"seen"
    assert heard[-1] == (0, 0)


def test_python_slicer_is_found_and_is_a_launcher_of_the_real_child(process):
    program = shutil.which("PythonSlicer")
    assert program is not None
    process.start(program, ["-c", "import os, sys; print(os.getpid(), os.getppid(), sys.argv[1]); sys.exit(3)", "a b"])
    assert process.waitForStarted(20000)
    launcher = process.processId()
    assert process.waitForFinished(20000)
    child, parent, argument = process.readAllStandardOutput().data().decode().split(maxsplit=2)
    assert process.exitCode() == 3
    assert argument.strip() == "a b"
    assert int(child) != launcher
    assert os.name == "nt" or int(parent) == launcher


def test_there_is_no_pid(process):
    with pytest.raises(AttributeError, match="pid"):
        process.pid()


def test_a_detached_child_starts_from_the_class_and_from_an_object(host, tmp_path, wait_until):
    import qt

    code = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('here')"
    first, second = tmp_path / "first child", tmp_path / "zweites Känd"
    assert qt.QProcess.startDetached(sys.executable, ["-c", code, str(first)]) is True
    detached = qt.QProcess()
    detached.setProgram(sys.executable)
    detached.setArguments(["-c", code, str(second)])
    assert detached.startDetached() is True
    wait_until(lambda: first.exists() and second.exists(), timeout=20)


def test_the_environment_of_a_child_can_be_changed(process):
    import qt

    environment = qt.QProcessEnvironment.systemEnvironment()
    environment.insert("HOST_TEST_WORD", "grün")
    process.setProcessEnvironment(environment)
    process.start(sys.executable, ["-c", "import os; print(ascii(os.environ['HOST_TEST_WORD']))"])
    assert process.waitForFinished(20000)
    assert process.readAllStandardOutput().data().strip() == b"'gr\\xfcn'"


def test_a_timer_has_active_as_property_and_single_shot_as_static_function(host, wait_until):
    import qt

    timer, ticks = qt.QTimer(), []
    timer.timeout.connect(lambda: ticks.append(1))
    timer.setSingleShot(True)
    timer.start(1)
    assert (timer.active, timer.isActive(), timer.isSingleShot()) == (True, True, True)
    timer.singleShot(1, lambda: ticks.append(2))
    qt.QTimer.singleShot(1, lambda: ticks.append(3))
    wait_until(lambda: len(ticks) == 3)
    assert sorted(ticks) == [1, 2, 3]
    assert timer.active is False
    with pytest.raises(AttributeError, match="Slot 'singleShot' can not be overwritten"):
        timer.singleShot = True


def test_settings_keep_values_within_a_test(host):
    import qt
    import slicer.util

    qt.QSettings().setValue("AutoFuse/threads", 3)
    assert slicer.app.settings().value("AutoFuse/threads") == 3
    assert slicer.util.settingsValue("AutoFuse/threads", 1, converter=int) == 3
    assert slicer.util.settingsValue("AutoFuse/absent", 1, converter=int) == 1


def test_settings_are_empty_at_the_start_of_a_test(host):
    import qt

    assert list(qt.QSettings().allKeys()) == []


def test_a_temporary_directory_is_made_where_the_application_says(host, tmp_path):
    import pathlib

    import slicer.util

    slicer.app.temporaryPath = str(tmp_path / "zwischen lager")
    folder = pathlib.Path(slicer.util.tempDirectory())
    assert folder.is_dir()
    assert folder.parent == tmp_path / "zwischen lager"
