"""Acknowledged writes that the store does not have yet, and the rules by which they come home."""
