"""The managers, and the adapter for those of others."""
