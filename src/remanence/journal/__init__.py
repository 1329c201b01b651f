"""Acknowledged writes that the store does not have yet, and the rules by which they come home."""

from remanence.journal.base import Journal

__all__ = ["Journal"]
