"""`remanence conformance`: the card, its exit status, and what it says where it cannot run."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from remanence.cli import main
from remanence.lab import RedisServer
from remanence.lab.ports import choose_port
from remanence.testing.conformance import REQUIREMENTS, Hooks
from tests.testing.conformance import factories

HERE = "tests.testing.conformance.factories"
ROOT = Path(__file__).resolve().parents[3]
REQUIRED = [requirement.id for requirement in REQUIREMENTS if requirement.tier == "required"]


def card(path: Path) -> list[dict[str, Any]]:
    """Read a card."""
    found: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    return found


def conform(*arguments: str) -> int:
    """Run the command."""
    return main(["conformance", *arguments])


class TestCards:
    """What it says of managers."""

    def test_the_card_has_every_requirement_with_its_tier_status_and_reason(self, tmp_path: Path) -> None:
        """What was not declared is skipped, with the reason; a factory is called once for each, and to look."""
        factories.MADE.clear()
        assert conform(f"{HERE}:counted", "--json", str(tmp_path / "card.json")) == 0
        found = card(tmp_path / "card.json")
        assert [each["id"] for each in found] == [requirement.id for requirement in REQUIREMENTS]
        assert [each["tier"] for each in found] == [requirement.tier for requirement in REQUIREMENTS]
        assert {each["status"] for each in found if each["tier"] == "required"} == {"passed"}
        assert {each["status"] for each in found if each["tier"] == "optional"} == {"skipped"}
        assert next(each for each in found if each["id"] == "RM-201")["reason"] == "not declared: ttl"
        assert all(each["reason"] is None for each in found if each["status"] == "passed")
        assert all(set(each) == {"id", "tier", "status", "reason"} for each in found)
        # One more for RM-002, which compares two.
        assert len(factories.MADE) == len(REQUIRED) + 2

    def test_a_failed_requirement_is_told_with_its_reason(self, capsys: pytest.CaptureFixture[str]) -> None:
        """And the exit status says so; what rests on it names it."""
        assert conform(f"{HERE}:lacking") == 1
        told = capsys.readouterr().out
        assert "RM-001  failed" in told
        assert "not implemented: update" in told
        assert "(rests on RM-001, not met)" not in told.split("RM-002")[0]
        assert "(rests on RM-030, not met)" in told
        assert "optional: ttl: 4 skipped, RM-201 to RM-204: not declared" in told
        assert f"optional: 0 passed, 0 failed, {len(REQUIREMENTS) - len(REQUIRED)} skipped" in told

    def test_a_declared_capability_counts(self, tmp_path: Path) -> None:
        """A manager that does not do what it declares is no better than one that lacks what is required."""
        file = tmp_path / "card.json"
        assert conform(f"{HERE}:with_options", "--json", str(file), "--capability", "dicts", "metadata") == 0
        assert sum(each["status"] == "passed" for each in card(file)) == len(REQUIRED) + 6
        assert conform(f"{HERE}:takes_no_dicts", "--json", str(file), "--capability", "dicts") == 1
        assert conform(f"{HERE}:takes_no_dicts") == 0

    @pytest.mark.parametrize("name", ["awaited", "coroutine", "in_a_loop", "AsyncInMemoryManager"])
    def test_an_asynchronous_manager_is_recognised(self, name: str, tmp_path: Path) -> None:
        """Whether the factory must be awaited, needs a loop, or is a class."""
        file = tmp_path / "card.json"
        assert conform(f"{HERE}:{name}", "--json", str(file), "--capability", "batches", "mutate") == 0
        assert sum(each["status"] == "passed" for each in card(file)) == len(REQUIRED) + 8

    @pytest.mark.parametrize("name", ["Delegates", "DelegatesTasks"])
    def test_plain_methods_that_return_awaitables_are_recognised(self, name: str) -> None:
        """By what the first retrieve returns, or asks for."""
        assert conform(f"{HERE}:{name}") == 0

    @pytest.mark.parametrize("name", ["Exits", "ExitsAwaited", "Skips"])
    def test_a_method_that_raises_what_is_no_exception_fails(self, name: str, tmp_path: Path) -> None:
        """The run goes on: an exit is not a success, nor a skipped test a passed one."""
        file = tmp_path / "card.json"
        assert conform(f"{HERE}:{name}", "--json", str(file)) == 1
        found = {each["id"]: each for each in card(file)}
        assert len(found) == len(REQUIREMENTS)
        assert "which is no Exception" in found["RM-030"]["reason"]
        assert "which is no Exception" in found["RM-001"]["reason"]
        assert found["RM-010"]["status"] == "passed"

    def test_a_manager_that_cannot_be_closed_fails_and_is_told_so(self, tmp_path: Path) -> None:
        """Already the one that was only looked at."""
        file = tmp_path / "card.json"
        assert conform(f"{HERE}:CannotBeClosed", "--json", str(file)) == 1
        assert card(file)[0]["reason"].startswith("closing the manager raised OSError")

    def test_a_manager_that_is_handed_out_twice_is_reported(self, tmp_path: Path) -> None:
        """It is RM-002 that fails, and nothing else."""
        assert conform(f"{HERE}:always_the_same", "--json", str(tmp_path / "card.json")) == 1
        failed = [each for each in card(tmp_path / "card.json") if each["status"] == "failed"]
        assert [each["id"] for each in failed] == ["RM-002"]
        assert failed[0]["reason"] == "two managers of the factory share the manager itself"

    def test_the_factory_is_given_the_url_and_the_time_to_live(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The URL each time, the time to live for the capability alone."""
        factories.MADE.clear()
        monkeypatch.setattr(Hooks, "advance", lambda _, seconds: factories.CLOCK.advance(seconds))
        assert conform(f"{HERE}:with_options", "--url", "some://where", "--capability", "ttl") == 0
        assert set(factories.MADE) == {("some://where", 60), ("some://where", 1), ("some://where", 2)}

    def test_a_manager_on_redis_through_outages(self, server: RedisServer, redis_url: str, tmp_path: Path) -> None:
        """A proxy takes the server away and silences it; nothing is left on the server, which others may use."""
        with Redis.from_url(redis_url) as client:
            client.set("other", "untouched")
            file = tmp_path / "card.json"
            assert conform(f"{HERE}:on_redis", "--url", redis_url, "--capability", "faults", "--json", str(file)) == 0
            assert [each["status"] for each in card(file) if each["id"].startswith("RM-8")] == ["passed"] * 5
            assert client.keys() == [b"other"]
        assert server.port

    def test_one_that_hangs_fails_and_the_others_are_run(self, tmp_path: Path) -> None:
        """Each requirement has its time."""
        file = tmp_path / "card.json"
        assert conform(f"{HERE}:Hangs", "--time-limit", "0.2", "--json", str(file)) == 1
        found = card(file)
        hung = [each["id"] for each in found if each["reason"] == "it did not end within 0.2 s: a call hangs"]
        assert "RM-030" in hung
        assert any(each["status"] == "passed" for each in found if each["id"] > "RM-030")
        assert len(found) == len(REQUIREMENTS)


class TestWhatCannotRun:
    """One line that names the error, exit status 2, and no card."""

    @pytest.mark.parametrize(
        ("factory", "more", "said"),
        [
            ("nonsense", [], "MODULE:FACTORY"),
            ("no.such.module:make", [], "there is no module no here"),
            (f"{HERE}:missing", [], "has no missing"),
            (f"{HERE}:NOT_CALLABLE", [], "is a int, which cannot be called"),
            (f"{HERE}:raising", [], "the factory made no manager: RuntimeError was raised in factories.py, line"),
            (f"{HERE}:exiting", [], "the factory made no manager: SystemExit was raised in factories.py, line"),
            (f"{HERE}:skipping", [], "the factory made no manager: SkippedError was raised in factories.py, line"),
            (f"{HERE}:nothing", [], "make_manager() returned NoneType, which is no manager"),
            (f"{HERE}:the_class", [], "make_manager() returned the class InMemoryManager, which is no manager"),
            (f"{HERE}:on_redis", [], "give it its URL with --url"),
            (f"{HERE}:counted", ["--url", "redis://u:hunter2@h"], "leave --url out"),
            (f"{HERE}:counted", ["--capability", "ttl"], "takes the seconds as ttl="),
            (f"{HERE}:with_options", ["--capability", "faults"], "faults needs --url redis://"),
            (f"{HERE}:counted", ["--json", "/nonexistent/card.json"], "The result cannot be written"),
        ],
    )
    def test_a_factory_or_an_option_that_cannot_be_used(
        self, factory: str, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """No message tells a secret."""
        assert conform(factory, *more) == 2
        told = capsys.readouterr()
        assert said in told.err
        assert told.err.count("\n") == 1
        assert "hunter2" not in told.err + told.out
        assert told.out == ""

    @pytest.mark.parametrize(("body", "said"), [("1 / 0", "ZeroDivisionError"), ("raise SystemExit(0)", "SystemExit")])
    def test_a_module_that_cannot_be_imported(
        self, body: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It is found in the working directory, and the place of the error is named."""
        (tmp_path / "broken_module_of_a_test.py").write_text(f"\n{body}\n", "utf-8")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", sys.path[:])
        monkeypatch.delitem(sys.modules, "broken_module_of_a_test", raising=False)
        importlib.invalidate_caches()
        assert conform("broken_module_of_a_test:make") == 2
        assert f"{said} was raised in broken_module_of_a_test.py, line 2" in capsys.readouterr().err

    def test_a_server_that_does_not_run(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """It says nothing about the manager, so there is no card; an earlier one is left alone."""
        file = tmp_path / "card.json"
        file.write_text("earlier", "utf-8")
        url = f"redis://:hunter2@127.0.0.1:{choose_port()}/0"
        assert conform(f"{HERE}:on_redis", "--url", url, "--json", str(file)) == 2
        told = capsys.readouterr()
        assert told.err == ("remanence conformance: the store does not answer (ConnectionError). Is it running?\n")
        assert told.out == ""
        assert file.read_text("utf-8") == "earlier"

    def test_a_server_that_ends_in_the_middle(
        self, private_server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The rest would fail, and say nothing about the manager: it is an error, and no card."""
        file = tmp_path / "card.json"
        factories.MADE.clear()
        factories.STOPS[20] = private_server.stop
        try:
            assert conform(f"{HERE}:counted_on_redis", "--url", private_server.url, "--json", str(file)) == 2
        finally:
            factories.STOPS.clear()
        assert "the store does not answer (ConnectionError)" in capsys.readouterr().err
        assert not file.exists()

    @pytest.mark.parametrize("name", ["RedisWorkingMemoryManager", "AsyncRedisWorkingMemoryManager"])
    def test_a_server_that_does_not_run_is_noticed_for_either_kind(
        self, name: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Whichever way its manager is made."""
        assert conform(f"remanence:{name}", "--url", f"redis://127.0.0.1:{choose_port()}/0") == 2
        assert "the store does not answer" in capsys.readouterr().err

    def test_a_factory_that_hangs(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """It is waited for as long as for a requirement."""
        monkeypatch.setattr(factories, "counted", lambda: time.sleep(30))
        assert conform(f"{HERE}:counted", "--time-limit", "0.1") == 2
        assert "did not end within 0.1 s" in capsys.readouterr().err


class TestProcesses:
    """How it ends."""

    def test_ctrl_c_ends_it_at_once_and_writes_nothing(self, tmp_path: Path) -> None:
        """Also while a requirement hangs."""
        file = tmp_path / "card.json"
        command = [sys.executable, "-m", "tests.testing.conformance.run_command", f"{HERE}:Hangs", "--json", str(file)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "a requirement hangs\n"
            process.send_signal(signal.SIGINT)
            told = process.communicate(timeout=10)
        assert process.returncode == 130
        assert "interrupted; no card was written" in told[1]
        assert "conversations whose ids begin with remanence-conformance-" in told[1]
        assert "Traceback" not in told[1]
        assert list(tmp_path.iterdir()) == []

    def test_a_manager_that_hangs_does_not_hang_the_end(self, tmp_path: Path) -> None:
        """Python would wait for the threads of its executors; the card is complete before."""
        file = tmp_path / "card.json"
        command = [sys.executable, "-c", "import sys; from remanence.cli import main; sys.exit(main())"]
        more = ["conformance", f"{HERE}:HangsInAnExecutor", "--time-limit", "0.2", "--json", str(file)]
        run = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
        assert run.returncode == 1
        assert run.stderr.endswith("conversations whose ids begin with remanence-conformance-.\n")
        assert len(card(file)) == len(REQUIREMENTS)

    def test_a_first_retrieve_that_hangs_does_not_hang_the_end(self) -> None:
        """Nothing was run, and that is what the status says."""
        command = [sys.executable, "-c", "import sys; from remanence.cli import main; sys.exit(main())"]
        more = ["conformance", f"{HERE}:HangsAtOnce", "--time-limit", "0.2"]
        run = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
        assert run.returncode == 2
        assert "did not end within 0.2 s" in run.stderr

    def test_ctrl_c_ends_it_while_the_thread_of_an_executor_hangs(self) -> None:
        """For which Python would wait, and take a second Ctrl-C for an error."""
        command = [sys.executable, "-c", "import sys; from remanence.cli import main; sys.exit(main())"]
        more = ["conformance", f"{HERE}:HangsAtOnce", "--time-limit", "60"]
        with subprocess.Popen(
            [*command, *more], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "a retrieve hangs\n"
                process.send_signal(signal.SIGINT)
                told = process.communicate(timeout=10)
            finally:
                process.kill()
        assert process.returncode == 130
        assert "Traceback" not in told[1]

    def test_the_card_for_machines_may_go_to_what_is_printed(self, tmp_path: Path) -> None:
        """After the other one: a second opening of the file would write over it."""
        program = "import sys; from remanence.cli import main; sys.exit(main())"
        output = tmp_path / "stdout"  # as /dev/stdout, which a mistake would replace for the whole machine
        output.symlink_to("/dev/fd/1")
        command = [sys.executable, "-c", program, "conformance", f"{HERE}:counted", "--json", str(output)]
        with (tmp_path / "out").open("w+", encoding="utf-8") as out:
            subprocess.run(command, cwd=ROOT, stdout=out, timeout=30, check=True)
        told = (tmp_path / "out").read_text("utf-8")
        assert told.startswith("required\n")
        assert len(json.loads(told[told.index("[\n") :])) == len(REQUIREMENTS)

    def test_a_pipe_is_written_to(self, tmp_path: Path) -> None:
        """It stays one."""
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        command = [sys.executable, "-c", "import sys; from remanence.cli import main; sys.exit(main())"]
        more = ["conformance", f"{HERE}:counted", "--json", str(pipe)]
        with subprocess.Popen([*command, *more], cwd=ROOT, stdout=subprocess.DEVNULL) as process:
            reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # or this would wait where the pipe was replaced
            try:
                assert process.wait(timeout=30) == 0
                assert len(json.loads(os.read(reader, 1_000_000))) == len(REQUIREMENTS)
            finally:
                os.close(reader)
        assert pipe.is_fifo()

    def test_it_needs_neither_pytest_nor_hypothesis(self) -> None:
        """Nor rich: a manager may be tried where only the package is."""
        program = (
            "import sys\n"
            "for name in ('pytest', '_pytest', 'hypothesis', 'rich'): sys.modules[name] = None\n"
            "from remanence.cli import main\n"
            "sys.exit(main(['conformance', 'remanence:InMemoryManager']))\n"
        )
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
        assert run.returncode == 0, run.stderr
        assert "required: 32 passed, 0 failed, 0 skipped" in run.stdout
