"""Jobs in a child process, with a scripted worker below the launcher: the queue, the answers, and death."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from worker_jobs import Client, scriptedClients

from autofuse_engine.events import Progress
from autofuse_engine.events import Warning as WarningEvent


@pytest.fixture
def make(host: Any, wait_until: Callable[..., Any], tmp_path: Path) -> Iterator[Callable[..., Client]]:
    with scriptedClients(wait_until, tmp_path) as build:
        yield build


@pytest.fixture
def client(make: Callable[..., Client]) -> Client:
    return make()


class TestJobs:
    def test_the_first_job_starts_the_worker_and_the_next_ones_find_it_warm(self, client: Client) -> None:
        assert (client.worker.state, client.worker.logPath, client.worker.processId) == ("stopped", None, 0)
        record = client.submit("echo", {"folder": "C:\\Größe 中 5\u2028"})
        first = client.answered(record)
        assert first.report["spec"] == {"folder": "C:\\Größe 中 5\u2028"}
        assert record.events == [Progress(stage="check", fraction=0.5), WarningEvent(code="less-memory", text="Less.")]
        assert client.worker.state == "ready"
        assert client.run("echo").report["pid"] == first.report["pid"] == client.worker.processId

    def test_submitting_returns_before_anything_happens_and_ids_increase(self, client: Client) -> None:
        records = [client.submit("echo", {"number": number}) for number in range(4)]
        assert [record.id for record in records] == [1, 2, 3, 4]
        assert not [record for record in records if record.answers or record.events]
        assert client.worker.state == "stopped"
        client.answered(*records)
        assert [record.answer.report["spec"]["number"] for record in records] == [0, 1, 2, 3]

    @pytest.mark.parametrize("spec", [{"a": float("nan")}, {"a": Path("b")}, {"a": {1, 2}}])
    def test_a_spec_that_json_cannot_say_is_refused_at_once(self, client: Client, spec: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="JSON"):
            client.submit("echo", spec)
        client.idle(0.05)
        assert client.worker.state == "stopped"

    def test_garbage_and_split_characters_and_very_long_lines_do_not_disturb(self, client: Client) -> None:
        record = client.submit("noise")
        answer = client.answered(record)
        assert record.events == [Progress(stage="check", fraction=0.5, text="Größe µ 中")]
        assert answer.report == {"long": "ä" * 1_500_000}
        client.run("echo")
        log = client.worker.logPath.read_text(encoding="utf-8")
        assert "not UTF-8" in log
        assert "teleport" in log
        assert "stderr: Größe 5 µm" in log
        assert "Größe µ 中" not in log

    def test_a_request_that_the_worker_cannot_read_is_answered(self, client: Client) -> None:
        assert client.run("refuse").code == "request-invalid"
        assert client.run("echo").event == "result"

    def test_a_result_whose_files_are_absent_is_an_error_that_names_them(self, client: Client, tmp_path: Path) -> None:
        there = tmp_path / "there.npy"
        there.write_bytes(b"x")
        files = {"warped": str(there), "jacobian": str(tmp_path / "gone.npy")}
        answer = client.run("echo", {"files": files})
        assert answer.code == "result-incomplete"
        assert "jacobian" in answer.text
        assert "warped" not in answer.text
        assert client.run("echo", {"files": {"warped": str(there)}}).event == "result"

    def test_a_callback_that_raises_is_shown_and_breaks_nothing(self, client: Client, host: Any) -> None:
        answers = []

        def fail(event: Any) -> None:
            answers.append(event)
            raise KeyError(event.event)

        client.worker.submit("echo", {}, fail, fail)
        following = client.submit("echo")
        client.answered(following)
        assert [event.event for event in answers] == ["progress", "warning", "result"]
        assert [str(error) for error in host.uncaught] == ["'progress'", "'warning'", "'result'"]
        assert following.answer.event == "result"
        host.uncaught.clear()

    def test_callbacks_may_submit_cancel_and_run_the_event_loop(self, client: Client, host: Any) -> None:
        order, later = [], []

        def nested(event: Any) -> None:
            order.append(event.event)
            if event.event == "result":
                later.append(client.submit("echo"))
                client.answered(later[0])
                client.worker.cancel(later[0].id)
            else:
                host.app.processEvents()

        client.worker.submit("echo", {}, nested, nested)
        client._waitUntil(lambda: later and later[0].answers, timeout=60)
        assert order == ["progress", "warning", "result"]
        assert later[0].answer.event == "result"

    def test_the_environment_holds_slicers_own_and_the_engine_first(
        self, make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/somewhere/else", ""]))
        monkeypatch.setenv("OF_SLICER", "kept")
        report = make(environment={"ADDED": "gewiß"}).run("environment").report
        environment = report["environment"]
        root = str(Path(__file__).resolve().parents[2])
        assert environment["PYTHONPATH"].split(os.pathsep) == [root, "/somewhere/else"]
        assert report["path"][1] == root
        expected = {"THP_MEM_ALLOC_ENABLE": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1",
                    "PYTHONUTF8": "1", "ADDED": "gewiß", "OF_SLICER": "kept"}  # fmt: skip
        assert {name: environment[name] for name in expected} == expected


class TestDeath:
    @pytest.mark.parametrize(("job", "spec", "words"), [("exit", {"code": 5}, "exit code 5"), ("crash", {}, "SIGKILL")])
    def test_a_worker_that_dies_takes_only_its_job_and_the_next_one_starts_another(
        self, client: Client, job: str, spec: dict[str, Any], words: str
    ) -> None:
        first, second = client.submit(job, spec), client.submit("echo")
        client.answered(first, second)
        answer = first.answer
        assert answer.code == "worker-died"
        assert "nothing in the scene was lost" in answer.text
        assert os.name == "nt" or words in answer.text
        assert "ry again" in answer.hint
        logs = list(client.worker.logPath.parent.glob("*.log"))
        assert [path for path in logs if str(path) in answer.hint]
        assert len(logs) == 2
        assert second.answer.event == "result"

    def test_the_last_words_stand_in_the_log(self, client: Client) -> None:
        client.run("exit", {"code": 5})
        log = client.worker.logPath.read_text(encoding="utf-8")
        assert "the last words, without an end of line" in log
        assert "exit code 5" in log

    def test_a_job_on_its_way_to_a_worker_that_leaves_is_sent_to_the_next_one(
        self, client: Client, tmp_path: Path
    ) -> None:
        before = client.run("echo").report["pid"]
        record = client.submit("leave once", {"marker": str(tmp_path / "marker")})
        assert client.answered(record).report["pid"] != before
        assert record.answer.report["pid"] == client.worker.processId

    def test_a_job_is_sent_again_only_once(self, client: Client, tmp_path: Path) -> None:
        answer = client.run("leave once", {"marker": str(tmp_path / "marker"), "always": True})
        assert answer.code == "worker-died"
        assert len(list(client.worker.logPath.parent.glob("*.log"))) == 2

    def test_a_job_that_had_begun_is_not_sent_again(self, client: Client) -> None:
        record = client.submit("exit", {"code": 0})
        assert client.answered(record).code == "worker-died"
        assert len(record.events) == 1

    def test_an_idle_worker_leaves_and_is_started_again(self, make: Callable[..., Client]) -> None:
        client = make("0.4")
        first = client.run("echo").report["pid"]
        client._waitUntil(lambda: client.worker.state == "stopped", timeout=30)
        second = client.run("echo").report["pid"]
        assert first != second

    def test_an_absent_program_is_told_to_every_job_after_submit_has_returned(
        self, make: Callable[..., Client]
    ) -> None:
        client = make(program="no-such-program-äö")
        records = [client.submit("echo"), client.submit("echo")]
        assert not records[0].answers
        assert client.answered(*records).code == records[0].answer.code == "worker-not-started"
        assert "no-such-program-äö" in records[0].answer.text
        assert client.worker.state == "stopped"

    @pytest.mark.skipif(os.name == "nt", reason="Windows runs a file by its name, not by a permission")
    def test_a_program_that_cannot_be_started_is_told(
        self, make: Callable[..., Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program = tmp_path / "broken program"
        program.write_text("#!/no/such/interpreter\n", encoding="utf-8")
        program.chmod(0o755)
        assert make(program=str(program)).run("echo").code == "worker-not-started"

    def test_a_worker_that_ends_before_its_greeting_is_told_with_its_exit_code(
        self, make: Callable[..., Client]
    ) -> None:
        client = make("exits")
        records = [client.submit("echo"), client.submit("echo")]
        client.answered(*records)
        assert [record.answer.code for record in records] == ["worker-not-started"] * 2
        assert "exit code 3" in records[0].answer.text
        assert str(client.worker.logPath) in records[0].answer.hint

    def test_a_worker_that_never_greets_is_ended_and_told(self, make: Callable[..., Client]) -> None:
        client = make("silent", start=0.5)
        answer = client.run("echo")
        assert answer.code == "worker-unresponsive"
        assert "0.5 s" in answer.text
        assert client.worker.state == "stopped"

    def test_a_worker_of_another_protocol_is_refused(self, make: Callable[..., Client]) -> None:
        client = make("foreign")
        records = [client.submit("echo"), client.submit("echo")]
        client.answered(*records)
        assert [record.answer.code for record in records] == ["worker-protocol"] * 2
        assert "77" in records[0].answer.text

    def test_missing_packages_are_told_as_the_worker_says_it(self, make: Callable[..., Client]) -> None:
        client = make("packages")
        records = [client.submit("echo"), client.submit("echo")]
        client.answered(*records)
        assert [record.answer.code for record in records] == ["packages-missing"] * 2
        assert records[0].answer.text == "No module named 'torch'."

    def test_a_log_that_cannot_be_written_stops_no_job(
        self, make: Callable[..., Client], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").write_text("in the way", encoding="utf-8")
        client = make(logFolder=tmp_path / "file" / "log")
        with caplog.at_level(logging.WARNING):
            assert client.run("echo").event == "result"
        assert client.worker.logPath is None
        assert "log" in caplog.text
