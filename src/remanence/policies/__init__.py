"""The decorators, one a file, each with its pure machine beside it."""
