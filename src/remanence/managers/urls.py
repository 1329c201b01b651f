"""Which URLs name a Redis, and what is wrong with the others; a URL may hold a password, so no message quotes it."""

from __future__ import annotations

from urllib.parse import urlsplit

from remanence.errors import ConfigurationError

__all__ = ["DEFAULT_URL", "check_url"]

DEFAULT_URL = "redis://localhost:6379/1"
_SCHEMES = ("redis", "rediss", "unix")


def check_url(url: object) -> str:
    """Return `url`.

    Raises:
        ConfigurationError: It does not name a Redis server.
    """
    form = "Write redis://[user:password@]host:port/db, rediss://… for TLS, or unix:///path?db=1."
    if not isinstance(url, str):
        message = f"the Redis URL must be a text, not {type(url).__name__}. {form}"
        raise ConfigurationError(message)
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        message = f"the Redis URL cannot be read: the host or the port is malformed. {form}"
        raise ConfigurationError(message) from None
    if parts.scheme not in _SCHEMES:
        message = f"the Redis URL does not begin with one of {', '.join(f'{s}://' for s in _SCHEMES)}. {form}"
        raise ConfigurationError(message)
    database = parts.path.strip("/") if parts.scheme != "unix" else ""
    if database and not database.isdigit():
        message = f"the Redis URL names a database that is not a number. {form}"
        raise ConfigurationError(message)
    if parts.scheme == "unix" and not parts.path:
        message = f"the Redis URL names no socket. {form}"
        raise ConfigurationError(message)
    return url
