"""The command line: `remanence <command>`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from remanence.cli import chaos, conflicts, conformance, delete, demo, journal, simulate

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The words after the program's name; None takes them from the process.

    Returns:
        The exit status; each command's help says what it means.
    """
    parser = argparse.ArgumentParser(
        prog="remanence", description="Keeps an AI agent's conversation memory available while Redis comes and goes."
    )
    commands = parser.add_subparsers(title="commands", metavar="<command>", required=True)
    chaos.add_to(commands)
    conflicts.add_to(commands)
    conformance.add_to(commands)
    delete.add_to(commands)
    demo.add_to(commands)
    journal.add_to(commands)
    simulate.add_to(commands)
    options = parser.parse_args(arguments)
    status: int = options.run(options)
    return status
