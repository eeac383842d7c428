#!/usr/bin/env bash
# Expected:  a message is handled by the shell that its header names (no `subshell_id`: the main shell), as with every other kind of message.
# Happens:   since 7.4 a comm's message goes to the shell that last *sent* on this comm, whatever its header says. A front end that uses a
#            subshell so that clicks are heard while a cell runs is not heard there, once a cell of the main shell has updated the widget; and
#            what is sent to the main shell waits behind a cell of a subshell. In 7.3 the header decides.
# Matters:   the view has buttons that must work while a cell blocks, and it is updated from everywhere.
# Held here: kernel_ext/shells.py (`hear_where_sent`);
#            tests/kernel_ext/test_subshells.py, test_a_click_is_heard_while_a_subshell_blocks_in_which_the_view_was_updated
# Seen in:   ipykernel/comm/comm.py, `BaseComm.publish_msg`, `_reply_subshell_for`; ipykernel/kernelbase.py, `shell_channel_thread_main`
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/show.py" <<'PYTHON'
import sys
from importlib.metadata import version

from jupyter_client.manager import KernelManager

manager = KernelManager()  # its kernel is run by this Python: `python3` of the environment
manager.start_kernel()
client = manager.blocking_client()
client.start_channels()
client.wait_for_ready(timeout=60)

def send(kind, content, subshell=None):
    message = client.session.msg(kind, content)
    if subshell is not None:
        message["header"]["subshell_id"] = subshell
    client.shell_channel.send(message)

def printed():
    while True:
        message = client.get_iopub_msg(timeout=60)
        assert message["msg_type"] != "error", message["content"]
        if message["msg_type"] == "stream":
            return message["content"]["text"].strip()

def run(code, subshell=None):
    send("execute_request", {"code": code, "allow_stdin": False}, subshell)
    return printed()

def heard(subshell=None):
    send("comm_msg", {"comm_id": comm, "data": {}}, subshell)
    return printed()

START = """
import threading
from comm import create_comm
def hear(message):
    print("main shell" if threading.current_thread() is threading.main_thread() else "subshell")
it = create_comm(target_name="any")
it.on_msg(hear)
print(it.comm_id)
"""
try:
    comm = run(START)
    client.control_channel.send(client.session.msg("create_subshell_request", {}))
    subshell = client.control_channel.get_msg(timeout=60)["content"]["subshell_id"]
    run("it.send({}); print('updated')")
    one = heard(subshell)
    run("it.send({}); print('updated')", subshell)
    two = heard()
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()
print("ipykernel", version("ipykernel") + ": a comm's message is handled in the shell that", sys.argv[1])
print("sent to the subshell, after the main shell updated:", one, "- sent to the main shell, after the subshell updated:", two)
assert [one, two] == sys.argv[2:]
PYTHON
export JUPYTER_DATA_DIR="$folder/data" JUPYTER_RUNTIME_DIR="$folder/runtime" JUPYTER_CONFIG_DIR="$folder/config" IPYTHONDIR="$folder/ipython"
python3 -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip install -q ipykernel==7.3.0 jupyter_client==8.10.0
"$python" "$folder/show.py" "its header names." "subshell" "main shell"
"$python" -m pip install -q ipykernel==7.4.0
"$python" "$folder/show.py" "last updated the comm, against its header." "main shell" "subshell"
