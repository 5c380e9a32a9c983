"""The parts of the worker process: lines out of pieces, log files, process trees, the command, the words of errors."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from worker_jobs import running

SLEEP = """
import subprocess, sys, time
depth, source = int(sys.argv[1]), sys.argv[2]
child = subprocess.Popen([sys.executable, "-c", source, str(depth - 1), source]) if depth else None
print("up", flush=True)
time.sleep(600)
"""
"""A process with as many generations below it as its argument says."""


class TestLines:
    @pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
    def test_pieces_of_any_size_give_the_same_lines(self, host: Any, size: int) -> None:
        from AutoFuseLib.LineBuffer import LineBuffer

        text = "eins\n\nGröße µ 中文 🙂\r\nvier ohne Ende"
        data = text.encode("utf-8")
        lines = LineBuffer()
        found = [line for start in range(0, len(data), size) for line in lines.feed(data[start : start + size])]
        assert found == ["eins", "", "Größe µ 中文 🙂"]
        assert lines.rest() == "vier ohne Ende"
        assert lines.rest() == ""

    def test_bytes_that_are_no_utf8_become_replacement_characters(self, host: Any) -> None:
        from AutoFuseLib.LineBuffer import LineBuffer

        assert LineBuffer().feed(b"a\xffb\n") == ["a\ufffdb"]

    @pytest.mark.parametrize("size", [10, 999, 5000])
    def test_an_endless_line_is_cut_and_the_next_one_is_whole(self, host: Any, size: int) -> None:
        from AutoFuseLib.LineBuffer import LineBuffer

        lines, found = LineBuffer(limitBytes=1000), []
        data = b"x" * 4000 + b"\nnext\n"
        for start in range(0, len(data), size):
            found += lines.feed(data[start : start + size])
        assert found[-1] == "next"
        assert len(found) == 2
        assert set(found[0]) == {"x"}


class TestLog:
    def test_split_characters_are_whole_in_the_file_and_the_folder_may_have_any_name(
        self, host: Any, tmp_path: Path
    ) -> None:
        from AutoFuseLib.WorkerLog import WorkerLog

        log = WorkerLog(tmp_path / "ein Ordner" / "Größe 中")
        for byte in "Größe 中\n".encode():
            log.write(bytes([byte]))
        log.writeText("Ende\n")
        log.write(b"\xff")
        log.close()
        log.writeText("too late")
        assert log.path.read_text(encoding="utf-8") == "Größe 中\nEnde\n\ufffd"

    def test_the_beginning_and_the_end_of_a_long_log_stay(self, host: Any, tmp_path: Path) -> None:
        from AutoFuseLib.WorkerLog import WorkerLog

        log = WorkerLog(tmp_path, limitBytes=4000)
        for number in range(5000):
            log.writeText(f"Zeile ä {number}\n")
            assert log.path.stat().st_size < 4100
        log.close()
        text = log.path.read_text(encoding="utf-8")
        assert text.startswith("Zeile ä 0\nZeile ä 1\n")
        assert text.endswith("Zeile ä 4998\nZeile ä 4999\n")
        assert text.count("left out") == 1

    def test_ten_logs_are_kept_and_other_files_are_left_alone(self, host: Any, tmp_path: Path) -> None:
        from AutoFuseLib.WorkerLog import WorkerLog

        (tmp_path / "notes.log").write_text("mine", encoding="utf-8")
        for age in range(15):
            old = tmp_path / f"worker-2001-{age:02d}.log"
            old.write_text("old", encoding="utf-8")
            os.utime(old, (1e9 + age, 1e9 + age))
        log = WorkerLog(tmp_path)
        log.close()
        kept = {path.name for path in tmp_path.iterdir()}
        assert kept == {"notes.log", log.path.name, *(f"worker-2001-{age:02d}.log" for age in range(6, 15))}

    def test_two_logs_of_one_second_are_two_files(self, host: Any, tmp_path: Path) -> None:
        from AutoFuseLib.WorkerLog import WorkerLog

        first, second = WorkerLog(tmp_path), WorkerLog(tmp_path)
        assert first.path != second.path
        first.close()
        second.close()


@pytest.mark.skipif(os.name == "nt", reason="POSIX: signals and the table of processes")
class TestTree:
    def test_the_table_of_ps_agrees_with_that_of_proc(self, host: Any) -> None:
        from AutoFuseLib.ProcessTree import processTable, tableOfPs

        for table in (processTable(), tableOfPs(), processTable([os.getpid()]), tableOfPs([os.getpid()])):
            assert table[os.getpid()].parent == os.getppid()
            assert not table[os.getpid()].ended
        assert set(processTable([os.getpid()])) == set(tableOfPs([os.getpid()])) == {os.getpid()}
        assert processTable([]) == tableOfPs([]) == {}

    @pytest.mark.parametrize("source", ["proc", "ps"])
    def test_all_below_a_process_end_also_after_it_is_gone(
        self, host: Any, source: str, monkeypatch: pytest.MonkeyPatch, wait_until: Any
    ) -> None:
        import AutoFuseLib.ProcessTree as source_

        if source == "ps":
            monkeypatch.setattr(source_, "PROC", Path("/no/such/folder"))
        with subprocess.Popen([sys.executable, "-c", SLEEP, "2", SLEEP], stdout=subprocess.PIPE) as root:
            for _ in range(3):
                root.stdout.readline()
            tree = source_.makeProcessTree(root.pid)
            below = set(tree._known) - {root.pid}
            assert len(below) == 2
            root.kill()
        assert tree.alive()
        assert all(map(running, below))
        tree.kill()
        wait_until(lambda: not tree.alive(), timeout=10)
        assert not any(map(running, below))

    def test_an_id_that_belongs_to_another_process_by_now_is_left_alone(self, host: Any) -> None:
        from AutoFuseLib.ProcessTree import ProcessTree

        with subprocess.Popen([sys.executable, "-c", SLEEP, "0", ""], stdout=subprocess.PIPE) as other:
            other.stdout.readline()
            tree = ProcessTree(other.pid)
            assert tree.alive()
            tree._known[other.pid] = "started at another time"
            assert not tree.alive()
            tree.kill()
            time.sleep(0.1)
            assert other.poll() is None
            other.kill()

    def test_a_process_that_ended_and_was_not_fetched_counts_as_ended(self, host: Any) -> None:
        from AutoFuseLib.ProcessTree import ProcessTree

        with subprocess.Popen([sys.executable, "-c", SLEEP, "0", ""], stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            tree = ProcessTree(child.pid)
            os.kill(child.pid, 9)
            child.stdout.read()
            while tree.alive():
                time.sleep(0.01)
            assert child.returncode is None

    def test_a_tree_of_a_process_that_never_was_is_empty(self, host: Any) -> None:
        from AutoFuseLib.ProcessTree import ProcessTree

        tree = ProcessTree(2**30)
        tree.add(0)
        tree.terminate()
        tree.kill()
        assert not tree.alive()


def test_on_windows_the_launcher_and_the_worker_are_ended_by_one_command(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from AutoFuseLib import WindowsProcesses

    commands = []
    monkeypatch.setattr(WindowsProcesses.subprocess, "Popen", lambda command, **options: commands.append(command))
    monkeypatch.setattr(WindowsProcesses, "isRunning", lambda processId: processId != 3)
    tree = WindowsProcesses.WindowsTree(5)
    for processId in (0, 7, 3, 7):
        tree.add(processId)
    assert tree.alive()
    tree.terminate()
    assert commands == [["taskkill", "/T", "/F", "/PID", "5", "/PID", "7"]]
    monkeypatch.setattr(WindowsProcesses, "isRunning", lambda processId: False)
    tree.kill()
    assert not tree.alive()
    assert len(commands) == 1


class TestCommand:
    def test_the_default_is_the_worker_in_slicers_python(self, host: Any) -> None:
        from AutoFuseLib.WorkerCommand import makeCommand

        command = makeCommand()
        assert Path(command.program).stem == "PythonSlicer"
        assert command.arguments == ("-m", "autofuse_engine", "worker")
        assert command.processEnvironment().value("THP_MEM_ALLOC_ENABLE") == "1"

    def test_without_a_search_path_it_is_found_in_slicers_folder(
        self, host: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from AutoFuseLib.WorkerCommand import findPythonSlicer

        monkeypatch.setenv("PATH", "")
        assert Path(findPythonSlicer()).parent == Path(host.app.slicerHome) / "bin"

    def test_an_absent_program_is_refused_by_name(self, host: Any) -> None:
        from AutoFuseLib.WorkerCommand import makeCommand

        with pytest.raises(FileNotFoundError, match="no such one"):
            makeCommand("no such one")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals")
@pytest.mark.parametrize(
    ("code", "crashed", "words"),
    [(9, True, "signal SIGKILL"), (137, False, "signal SIGKILL"), (139, False, "signal SIGSEGV"),
     (3, False, "exit code 3"), (128, False, "exit code 128"), (255, False, "exit code 255"), (200, True, "exit code")],
)  # fmt: skip
def test_an_end_is_told_in_words(host: Any, code: int, crashed: bool, words: str) -> None:
    from AutoFuseLib.WorkerErrors import died, howItEnded

    assert words in howItEnded(code, crashed)
    assert ("memory" in died(code, crashed, None).hint) == ("SIGKILL" in words)
