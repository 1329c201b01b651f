"""What became of workers that were killed in the outage, as a sentence for the terminal."""

from __future__ import annotations

from remanence.lab.measurement import ManagerRun

__all__ = ["killing"]


def killing(run: ManagerRun) -> str:
    """Say what a manager's killed workers had acknowledged from the journal, and how much of it is lost."""
    found = run.killing
    if found is None:
        return f"{run.name}: no worker was killed."
    words = (
        f"{run.name}: {found.processes} worker processes killed at {found.at_s:.1f} s, new ones at work "
        f"{found.at_work_s - found.at_s:.1f} s later; "
    )
    if not found.acknowledged:
        return f"{words}nothing had been acknowledged without Redis."
    return (
        f"{words}of {found.acknowledged:,} writes that the dead had acknowledged without Redis {found.lost:,} are lost."
    )
