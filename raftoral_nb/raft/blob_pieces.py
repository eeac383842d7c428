"""The pieces in which blobs travel between nodes."""

from __future__ import annotations

from typing import Final

PIECE_BYTES: Final = 256 * 1024
"""Bytes of a blob in one message: so few that heartbeats need not wait long behind it."""
