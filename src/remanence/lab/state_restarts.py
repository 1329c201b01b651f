"""The states into which only a restart puts a server: it is loading its data, or is a node of a cluster.

The data is kept whatever the server's durability is.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from remanence.lab.control import Control, configured, wait_until
from remanence.lab.ports import choose_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["cluster_without_slots", "loading"]

# Loading takes as long as there are keys, so the lab brings keys of its own, each longer than the interval at which the
# server looks at its clients meanwhile. 6 000 keys at 5 ms last half a minute; leaving takes the delay away.
_FILLER: Final = "remanence-lab:filler:"
_FILLERS: Final = 6_000
_FILLER_BYTES: Final = 1_100
_LOOK_EVERY: Final = 1_024
_KEY_DELAY_US: Final = 5_000
_FILL: Final = "for i = 1, ARGV[2] do redis.call('SET', ARGV[1] .. i, string.rep('x', ARGV[3])) end"
_EMPTY: Final = "for i = 1, ARGV[2] do redis.call('UNLINK', ARGV[1] .. i) end"


@contextmanager
def loading(control: Control) -> Iterator[None]:
    """Have the server load its data, slowly and answering meanwhile."""
    slowly = {"key-load-delay": _KEY_DELAY_US, "loading-process-events-interval-bytes": _LOOK_EVERY}
    before = {name: control.get(name) for name in slowly}
    try:
        with configured(control, {"rdbcompression": "no"}):
            control.command("EVAL", _FILL, 0, _FILLER, _FILLERS, _FILLER_BYTES)
            _restart(control, {name: str(value) for name, value in slowly.items()}, wait=False)
        yield
    finally:
        for name, value in before.items():
            control.command("CONFIG", "SET", name, value)
        control.server.wait_ready()
        control.command("EVAL", _EMPTY, 0, _FILLER, _FILLERS)
        _remove_snapshot(control)


@contextmanager
def cluster_without_slots(control: Control) -> Iterator[None]:
    """Have the server be a node of a cluster in which nobody serves any slot."""
    nodes = Path(control.get("dir")) / "nodes.conf"
    try:
        _restart(control, {"cluster-enabled": "yes", "cluster-port": str(choose_port())})
        yield
    finally:
        _restart(control, {})
        nodes.unlink(missing_ok=True)


def _restart(control: Control, config: Mapping[str, str], *, wait: bool = True) -> None:
    """Restart with other settings, the data kept whatever the server's durability is."""
    if control.get("appendonly") == "yes":
        # Loading is answered for, key by key, in a snapshot alone; a new append-only file begins with one.
        control.command("BGREWRITEAOF")
        wait_until(lambda: _is_rewritten(control), "did not rewrite its append-only file")
    else:
        control.command("SAVE")
    control.server.restart(wait=wait, config=config)
    wait_until(lambda: _is_reached(control), "did not come back")
    if wait:
        _remove_snapshot(control)


def _is_rewritten(control: Control) -> bool:
    return control.info("aof_rewrite_in_progress") == control.info("aof_rewrite_scheduled") == "0"


def _is_reached(control: Control) -> bool:
    try:
        control.reconnect()
    except OSError:
        return False
    return True


def _remove_snapshot(control: Control) -> None:
    """Remove what was saved for the restart alone: a server without durability must not find it next time."""
    (Path(control.get("dir")) / control.get("dbfilename")).unlink(missing_ok=True)
