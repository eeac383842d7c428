"""What is run in Pyodide: pytest, given to it the arguments of this script."""

from __future__ import annotations

import os
import sys

import pytest

from raftoral_nb.virtual_time.nested_loop import without_outer_loop

os.chdir("/checkout")
os.environ["HYPOTHESIS_PROFILE"] = "few"
with without_outer_loop():  # Pyodide's own loop runs always
    sys.exit(pytest.main(["-p", "no:cacheprovider", *sys.argv[1:]]))
