"""Where a run took place: figures without it compare with nothing."""

from __future__ import annotations

import os
import platform
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

__all__ = ["load_average", "machine", "versions"]

_PACKAGES = ("remanence", "redis", "hiredis", "tenacity", "pydantic", "arshai")


def machine() -> dict[str, str | int]:
    """Return the machine's data: processor, cores that this process may use, system."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions(server: str) -> dict[str, str | None]:
    """Return the versions of what was measured, None for what is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version(), "server": server}
    for package in _PACKAGES:
        found[package] = None
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def load_average() -> float | None:
    """Return how many processes wanted to run in the last minute, None where the system does not tell."""
    with suppress(OSError, AttributeError):
        return round(os.getloadavg()[0], 2)
    return None


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or sys.platform
