"""`python -m raftoral_nb.hosts.remote`: a node's process, as a child of whoever has its spec."""

from __future__ import annotations

import sys

from .node_process import child

if __name__ == "__main__":
    sys.exit(child())
