"""Bridges to frameworks; none is imported here."""
