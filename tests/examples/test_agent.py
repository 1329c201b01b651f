"""The example that runs the framework's own agent: what it prints is what its page quotes."""

from __future__ import annotations

import os
import subprocess
import sys

from remanence.lab import RedisServer
from tests.examples.chat import EXAMPLES

QUOTED = (EXAMPLES / "agent" / "README.md", EXAMPLES.parent / "README.md")
BEGINNING = "The agent with the framework's manager as it is:\n"
WITHOUT_MEMORY = "    Current Working Memory:\n    No existing memory\n"
WITH_MEMORY = "    Current Working Memory:\n    I like Python.\n"


def output(**settings: str) -> str:
    """Run the script; return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name not in {"REDIS_URL", "LOG_LEVEL"}}
    command = [sys.executable, str(EXAMPLES / "agent" / "agent.py")]
    ended = subprocess.run(command, env=environment | settings, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert not ended.stderr
    return ended.stdout


def test_the_second_prompt_has_the_memory_of_the_first_turn(server: RedisServer, redis_url: str) -> None:
    """With the bridge; without, the agent begins anew and stores nothing. The pages quote it; nothing is left."""
    printed = output(REDIS_URL=redis_url)
    without, _, bridged = printed.partition("\n\n")
    assert WITHOUT_MEMORY in without
    assert "success" not in without
    assert WITH_MEMORY in bridged
    assert bridged.count("success\n") == 2
    for page in QUOTED:
        quoted = page.read_text("utf-8").partition(f"```\n{BEGINNING}")[2].partition("```")[0]
        assert BEGINNING + quoted == printed, page.name
    assert server.command("DBSIZE") == 0


def test_it_brings_a_server_where_none_is_named() -> None:
    """The same, on a private server."""
    assert output().partition("\n\n")[2].count(WITH_MEMORY) == 1
