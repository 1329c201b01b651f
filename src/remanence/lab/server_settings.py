"""The lab server's redis.conf."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Durability", "check_settings", "render_settings"]

Durability = Literal["off", "everysec", "always"]

_OURS = frozenset(
    ("appendfsync", "appendonly", "bind", "daemonize", "dir", "logfile", "pidfile", "port", "save", "supervised")
)


def check_settings(durability: str, config: Mapping[str, str]) -> None:
    """Refuse what would not make the server that was asked for.

    Raises:
        ValueError: `durability` is unknown; `config` sets what the lab sets itself, or holds a line break.
    """
    if durability not in get_args(Durability):
        raise ValueError(f"durability={durability!r} is none of {', '.join(get_args(Durability))}.")
    for name, value in config.items():
        if name.lower() in _OURS:
            raise ValueError(f"config sets {name!r}, which RedisServer sets itself: use its own arguments.")
        if any(character in name + value for character in "\r\n"):
            raise ValueError(f"config[{name!r}] holds a line break; redis.conf has one setting per line.")


def render_settings(port: int, durability: Durability, config: Mapping[str, str]) -> str:
    """Write the text of redis.conf; `config` has been checked."""
    settings = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": ".",
        "daemonize": "no",
        # The append-only file is the only thing that is kept, so that `durability` says all there is to say.
        "save": '""',
        "appendonly": "no" if durability == "off" else "yes",
        "appendfsync": "no" if durability == "off" else durability,
        **config,
    }
    return "".join(f"{name} {value}\n" for name, value in settings.items())
