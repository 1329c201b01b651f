"""What the package costs, measured beside the framework's own manager and bare redis-py: `python -m benchmarks`."""
