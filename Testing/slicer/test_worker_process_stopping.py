"""Cancelling jobs and ending the worker, with a scripted worker below the launcher: nothing stays behind."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from worker_jobs import SCRIPT, Client, running, scriptedClients

from autofuse_engine.events import Error, Result


@pytest.fixture
def make(host: Any, wait_until: Callable[..., Any], tmp_path: Path) -> Iterator[Callable[..., Client]]:
    with scriptedClients(wait_until, tmp_path) as build:
        yield build


@pytest.fixture
def client(make: Callable[..., Client]) -> Client:
    return make()


class TestCancelling:
    def test_a_running_job_stops_when_asked_and_the_worker_stays(self, client: Client) -> None:
        record = client.submit("slow")
        client.heard(record)
        child = client.worker.processId
        client.worker.cancel(record.id)
        client.worker.cancel(record.id)
        assert client.answered(record) == Error(
            code="cancelled", text="The run was cancelled; nothing was written.", hint="")  # fmt: skip
        assert client.run("echo").report["pid"] == child

    def test_a_waiting_job_is_answered_though_the_running_one_is_deaf(self, client: Client) -> None:
        first, second, third = client.submit("deaf"), client.submit("echo"), client.submit("echo")
        client.heard(first)
        client.worker.cancel(second.id)
        assert client.answered(second).code == "cancelled"
        assert not first.answers
        assert not third.answers

    def test_a_deaf_worker_and_its_children_are_killed_and_waiting_jobs_go_on_in_a_new_one(
        self, client: Client
    ) -> None:
        first, second = client.submit("deaf"), client.submit("echo")
        event = client.heard(first)
        processes = [event.values["parent"], event.step]
        assert [running(process) for process in processes] == [True, True]
        client.worker.cancel(first.id)
        client.answered(first, second)
        assert first.answer.code == "cancelled"
        assert second.answer.report["pid"] not in processes
        client._waitUntil(lambda: not any(map(running, processes)), timeout=10)

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no polite signal")
    def test_no_job_is_sent_to_a_worker_that_was_told_to_end(self, make: Callable[..., Client]) -> None:
        client = make(program=sys.executable)  # no launcher, whose end would be the end of all
        first, second = client.submit("dying"), client.submit("echo")
        client.heard(first)
        child = client.worker.processId
        client.worker.cancel(first.id)
        client.answered(first, second)
        assert first.answer.code == "cancelled"
        assert second.answer.report["pid"] != child

    def test_a_job_is_cancelled_while_the_worker_starts(self, client: Client) -> None:
        first, second = client.submit("echo"), client.submit("echo")
        client._waitUntil(lambda: client.worker.state == "starting", timeout=10)
        client.worker.cancel(first.id)
        client.answered(first, second)
        assert (first.answer.code, second.answer.event) == ("cancelled", "result")
        assert first.events == []

    def test_a_result_that_comes_after_cancelling_is_no_result(self, client: Client) -> None:
        record = client.submit("late")
        client.heard(record)
        client.worker.cancel(record.id)
        assert client.answered(record).code == "cancelled"

    def test_cancelling_what_was_answered_or_never_asked_does_nothing(self, client: Client) -> None:
        record = client.submit("echo")
        client.answered(record)
        client.worker.cancel(record.id)
        client.worker.cancel(4711)
        client.worker.finish(record.id)
        client.idle()
        assert len(record.answers) == 1
        assert client.worker.state == "ready"

    def test_finishing_ends_a_running_job_with_a_result_and_reaches_a_waiting_one(self, client: Client) -> None:
        first, second = client.submit("slow"), client.submit("slow")
        client.worker.finish(second.id)
        client.heard(first)
        client.worker.finish(first.id)
        client.answered(first, second)
        assert isinstance(first.answer, Result)
        assert second.answer.report["step"] < 50


class TestEnding:
    def test_stopping_answers_all_jobs_and_ends_the_worker_and_the_next_job_starts_another(
        self, client: Client
    ) -> None:
        first, second = client.submit("slow"), client.submit("echo")
        client.heard(first)
        child = client.worker.processId
        client.worker.stop()
        assert client.worker.state == "stopped"
        assert not first.answers  # never from inside the call
        third = client.submit("echo")
        client.answered(first, second, third)
        assert [first.answer.code, second.answer.code] == ["cancelled"] * 2
        assert third.answer.report["pid"] != child
        client._waitUntil(lambda: not running(child), timeout=10)

    @pytest.mark.parametrize("start", ["silent", "late"])
    def test_a_worker_that_has_not_greeted_yet_ends_whether_it_greets_later_or_not(
        self, make: Callable[..., Client], start: str
    ) -> None:
        client = make(start, "--stays")
        record = client.submit("echo")
        client._waitUntil(lambda: client.worker.state == "starting", timeout=10)
        client.worker.stop()
        client._waitUntil(lambda: not client.worker._leaving, timeout=20)
        assert record.answer.code == "cancelled"

    @pytest.mark.parametrize("arguments", [(), ("60", "--stays")])
    def test_stopping_a_deaf_worker_kills_it_after_a_while(
        self, make: Callable[..., Client], arguments: tuple[str, ...]
    ) -> None:
        client = make(*arguments)
        record = client.submit("deaf")
        event = client.heard(record)
        client.worker.stop()
        client._waitUntil(lambda: not running(event.values["parent"]) and not running(event.step), timeout=20)
        client._waitUntil(lambda: not client.worker._leaving, timeout=10)
        assert record.answer.code == "cancelled"

    @pytest.mark.parametrize("job", ["slow", "deaf"])
    @pytest.mark.parametrize("arguments", [(), ("60", "--stays")])
    def test_stopping_now_leaves_no_process_and_no_job_without_answer(
        self, make: Callable[..., Client], arguments: tuple[str, ...], job: str
    ) -> None:
        client = make(*arguments)
        first, second = client.submit(job), client.submit("echo")
        client.heard(first)
        child = client.worker.processId
        client.worker.stopNow()
        assert [first.answer.code, second.answer.code] == ["cancelled"] * 2
        assert not running(child)
        client.worker.stopNow()
        assert client.run("echo").event == "result"

    def test_stopping_now_also_ends_a_worker_that_is_about_to_leave(self, client: Client) -> None:
        record = client.submit("deaf")
        event = client.heard(record)
        client.worker.stop()
        client.worker.stopNow()
        assert not running(event.values["parent"])
        assert record.answer.code == "cancelled"

    def test_both_modules_share_one_worker_which_ends_with_slicer(self, host: Any, tmp_path: Path) -> None:
        import importlib

        import slicer

        import AutoFuseLib.WorkerProcess as source

        slicer.app.temporaryPath = str(tmp_path / "temp")
        worker = source.sharedWorker()
        importlib.reload(source)
        assert source.sharedWorker() is worker is slicer.modules.autoFuseWorker
        client = Client(worker, host.waitUntil)
        client.answered(devices := client.submit("devices"), timeout=120)
        assert devices.answer.report["devices"][0]["id"] == "cpu"
        assert worker.logPath.parent == tmp_path / "temp" / "AutoFuse"
        child = worker.processId
        host.exitApplication()
        assert not running(child)
        assert not hasattr(slicer.modules, "autoFuseWorker")
        assert source.sharedWorker() is not worker
        source.stopSharedWorker()

    @pytest.mark.skipif(os.name == "nt", reason="the stand-in's launcher is a batch file there")
    def test_an_orphan_of_a_killed_slicer_leaves(self, host: Any, wait_until: Callable[..., Any]) -> None:
        import signal
        import subprocess

        root = Path(__file__).resolve().parents[2]
        code = f"""
import sys
sys.path[:0] = [{str(root)!r}]
from Testing.host.session import boot
host = boot()
from AutoFuseLib.WorkerProcess import WorkerProcess
worker = WorkerProcess(arguments=[{str(SCRIPT)!r}])
worker.submit("slow", {{}}, lambda event: None, print)
host.waitUntil(lambda: worker.processId, timeout=60)
print(worker.processId, flush=True)
host.waitUntil(lambda: False, timeout=60)
"""
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=root) as slicerProcess:
            child = int(slicerProcess.stdout.readline())
            assert running(child)
            slicerProcess.send_signal(signal.SIGKILL)
        wait_until(lambda: not running(child), timeout=10)
