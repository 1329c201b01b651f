"""The rows, in the order in which they run."""

from __future__ import annotations

from benchmarks.rows import batch, disk, footprint, healthy, in_memory, layers, outage, proxy, replay, tasks
from benchmarks.setting import Row

__all__ = ["ROWS"]

ROWS: tuple[Row, ...] = (
    *healthy.ROWS,
    *layers.ROWS,
    *batch.ROWS,
    *outage.ROWS,
    *replay.ROWS,
    *disk.ROWS,
    *in_memory.ROWS,
    *footprint.ROWS,
    *tasks.ROWS,
    *proxy.ROWS,
)
