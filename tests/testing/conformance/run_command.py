"""Run the command in a process, and say when a requirement of the hanging manager hangs."""

from __future__ import annotations

import sys
import threading
from typing import Any

from remanence.cli import main
from tests.testing.conformance.factories import Hangs


def hang(_self: Any, _input: Any, **_: Any) -> None:
    """Say so, and wait for ever."""
    print("a requirement hangs", flush=True)  # noqa: T201 - the test waits for it
    threading.Event().wait()


if __name__ == "__main__":
    Hangs.update = hang  # type: ignore[method-assign, assignment]
    sys.exit(main(["conformance", *sys.argv[1:]]))
