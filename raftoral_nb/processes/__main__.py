"""`python -m raftoral_nb.processes`: a node's process, as a child of whoever has its spec."""

from __future__ import annotations

import sys

from .program import child

if __name__ == "__main__":
    sys.exit(child())
