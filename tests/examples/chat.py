"""The chat service of the examples as a process, and a client that talks to it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from remanence.lab.ports import choose_port
from tests.support import wait_until

__all__ = ["EXAMPLES", "ChatService", "Reply"]

EXAMPLES = Path(__file__).parents[2] / "examples"


class Reply:
    """The events of a turn as they arrive.

    Attributes:
        memory: What the first event said of the memory that was read.
    """

    def __init__(self, response: httpx.Response) -> None:
        self._events = _events(response)
        kind, self.memory = next(self._events)
        assert kind == "memory"
        self._last: tuple[str, dict[str, Any]] | None = None

    def words(self) -> Iterator[str]:
        """Give the words."""
        for kind, fields in self._events:
            assert self._last is None, "nothing comes after the outcome"
            if kind == "word":
                yield fields["text"]
            else:
                self._last = kind, fields

    def finish(self) -> tuple[str, dict[str, Any]]:
        """Read to the end, and return what the last event said."""
        for _ in self.words():
            pass
        assert self._last is not None, "the stream ended without an outcome"
        return self._last


def _events(response: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    kind = ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield kind, json.loads(line.removeprefix("data: "))


class ChatService:
    """The service under uvicorn, in a session of its own.

    Args:
        directory: For its journal and its log; another service may use the same one later.
        redis_url: Of its Redis.
        workers: Worker processes; with one there is no parent beside it.
        pause: Seconds that the scripted model thinks before each word.
        **settings: More of its environment.
    """

    def __init__(
        self, directory: Path, redis_url: str, *, workers: int = 1, pause: float = 0.0, **settings: str
    ) -> None:
        self.journal = directory / "pending.journal"
        self.url = ""
        self._log = directory / "service.log"
        self._workers = workers
        self._environment = {
            **os.environ,
            **settings,
            "REDIS_URL": redis_url,
            "JOURNAL": str(self.journal),
            "LLM_PAUSE": str(pause),
        }
        self._process: subprocess.Popen[bytes] | None = None
        # A connection for each request: any worker may get it.
        self.client = httpx.Client(timeout=15.0, headers={"Connection": "close"}, trust_env=False)

    def __enter__(self) -> Self:
        port = choose_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(EXAMPLES / "chat_service")]
        options = ["--port", str(port), "--workers", str(self._workers), "--no-access-log"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, *options],
                env=self._environment,
                cwd=self._log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_until(self._is_up, "all workers of the service are up", 20.0)
        except BaseException:
            self._kill()
            raise
        return self

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        return self.log.count("Application startup complete") == self._workers and self.status("/healthz") == 200

    @property
    def log(self) -> str:
        """What it has printed."""
        return self._log.read_text("utf-8")

    @property
    def pids(self) -> list[int]:
        """Its workers'."""
        return [int(pid) for pid in re.findall(r"Started server process \[(\d+)\]", self.log)]

    def status(self, path: str) -> int:
        """Return the status of a GET, 0 where nobody listens."""
        try:
            return self.client.get(self.url + path).status_code
        except httpx.ConnectError:
            return 0

    def health(self) -> dict[str, Any]:
        """Return the body of /readyz."""
        body: dict[str, Any] = self.client.get(f"{self.url}/readyz").json()
        return body

    @contextmanager
    def turn(self, conversation: str, message: str) -> Iterator[Reply]:
        """Say something; gives the reply once its first event is here."""
        url = f"{self.url}/conversations/{conversation}/turns"
        with self.client.stream("POST", url, json={"message": message}) as response:
            assert response.status_code == 200, self.log
            yield Reply(response)

    def say(self, conversation: str, message: str) -> tuple[dict[str, Any], str, str, dict[str, Any]]:
        """Say something; return what was read, the answer, and what the last event said."""
        with self.turn(conversation, message) as reply:
            answer = " ".join(reply.words())
            return (reply.memory, answer, *reply.finish())

    def terminate(self) -> None:
        """Send SIGTERM to the process that was started, as an orchestrator does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait_ended(self, seconds: float) -> None:
        """Wait until it has ended; nothing of it may be left then."""
        assert self._process is not None
        assert self._process.wait(seconds) in {0, -signal.SIGTERM}, self.log
        wait_until(lambda: not self._is_there(), "no process of the service is left", 2.0)

    def _is_there(self) -> bool:
        assert self._process is not None
        try:
            os.killpg(self._process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._kill()

    def _kill(self) -> None:
        self.client.close()
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(5.0)
