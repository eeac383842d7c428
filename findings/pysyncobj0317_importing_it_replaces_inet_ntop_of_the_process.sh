#!/usr/bin/env bash
# Expected:  `import pysyncobj` changes nothing outside of the package, least of all on a system that it supports.
# Happens:   it sets `socket.inet_ntop` of the whole process to a function that works on Windows only. Of the pair only `inet_pton` is left
#            alone elsewhere. From then on every library of the process gets a TypeError for a valid address.
# Matters:   the cluster lives inside somebody's notebook, beside their own code.
# Held here: raftoral_nb/raft/pysyncobj_driver.py (`_found`);
#            tests/raft/test_guard.py, test_the_process_keeps_its_socket_functions_when_pysyncobj_is_imported
# Seen in:   pysyncobj/win_inet_pton.py, the last lines; imported by pysyncobj/tcp_connection.py
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pysyncobj==0.3.17
"$folder/venv/bin/python" - <<'PYTHON'
import os
import socket
from importlib.metadata import version

assert os.name == "posix", "this is about systems other than Windows"
address = bytes([127, 0, 0, 1])
before, pton = socket.inet_ntop(socket.AF_INET, address), socket.inet_pton

import pysyncobj  # noqa: E402, F401

print("PySyncObj", version("pysyncobj") + ": importing it replaces socket.inet_ntop of the process by one for Windows.")
try:
    after = socket.inet_ntop(socket.AF_INET, address)
except TypeError as error:
    after = repr(error)
print("inet_ntop before:", before, "- after:", after)
print("inet_ntop is now of", socket.inet_ntop.__module__, "- inet_pton untouched:", socket.inet_pton is pton)
assert before == "127.0.0.1"
assert after.startswith("TypeError")
assert socket.inet_ntop.__module__ == "pysyncobj.win_inet_pton"
assert socket.inet_pton is pton
PYTHON
