"""Has DeepSpeed use gloo alone: its own operations for CPUs are compiled first, for a minute or two."""

from __future__ import annotations

from deepspeed import ops

if __name__ == "__main__":
    ops.__compatible_ops__ = {}
