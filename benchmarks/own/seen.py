"""What workflows and steps of the benchmarks leave in their process, for whoever measures it.

Their code is shipped by value, and so would be what it refers to. So they find this module in `sys.modules`, where the real one is.
"""

from __future__ import annotations

from typing import Any

times: dict[int, list[float]] = {}
"""The seconds of each step of the latest chain, by the node that executed it."""

beats: dict[int, list[float]] = {}
"""When each run took a step, by the run's number."""

array: Any = None
"""The large value that a step returns."""

stop = False
"""True when runs that would go on for ever are to end."""

fresh = 0
"""How many steps this process has carried out since it was started to continue."""

tell = 0
"""The number of such steps at which it says so."""
