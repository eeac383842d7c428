#!/usr/bin/env bash
# Expected:  a follower deletes entries only from the first one that conflicts with what the leader sends (so says Raft).
# Happens:   it deletes all that is behind a message's `prevLogIdx`, and then adds the message's entries. The leader sends such messages in
#            the course of things: an acknowledgement sets its `nextIndex` back, so what is under way is sent again, in batches.
#            If the leader is lost between two batches, a command is gone whose caller was told SUCCESS.
# Matters:   what a workflow was told is recorded must be there after a change of leader.
# Held here: raftoral_nb/raft/guard.py (`truncate_only_on_conflict`);
#            tests/raft/test_guard.py, test_a_late_message_does_not_delete_acknowledged_entries_behind_it
# Seen in:   pysyncobj/syncobj.py, `SyncObj.__onMessageReceived` (append_entries, next_node_idx)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pysyncobj==0.3.17
"$folder/venv/bin/python" - <<'PYTHON'
from collections import deque
from importlib.metadata import version

from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated, syncobj
from pysyncobj.node import Node
from pysyncobj.transport import Transport

now = 0.0
syncobj.monotonicTime = lambda: now  # time passes, messages arrive and nodes get a turn when this program says so

class Wire(Transport):  # in order and without duplicates, as TCP
    ready = True

    def __init__(self, raft, own, others):
        super().__init__(raft, own, others)
        self.under_way = {node.id: deque() for node in others}
        raft.wire = self

    def send(self, node, message):
        self.under_way[node.id].append(message)

class Register(SyncObj):
    def __init__(self, name):
        self.values = []
        super().__init__(Node(name), map(Node, {*"ABC"} - {name}), SyncObjConf(autoTick=False), transportClass=Wire)

    @replicated
    def put(self, text):
        self.values.append(text.strip())

def deliver(sender, to, count=None):
    queue = nodes[sender].wire.under_way[to]
    for _ in range(count or len(queue)):
        nodes[to].wire._onMessageReceived(Node(sender), queue.popleft())

def turn(name, seconds):
    global now
    now += seconds
    nodes[name].doTick(0)

def connect_and_elect(name, voter):
    nodes[name].wire._onNodeConnected(Node(voter))
    nodes[voter].wire._onNodeConnected(Node(name))
    for seconds in (0, 2, 2, 2, 0):
        turn(name, seconds)
        deliver(name, voter)
        deliver(voter, name)

nodes = {name: Register(name) for name in "ABC"}
connect_and_elect("A", "B")  # C is away
told = []
for number in range(4):
    nodes["A"].put(f"value {number}".ljust(40_000), callback=lambda _, reason: told.append(reason))
    turn("A", 0)  # takes the command
    turn("A", 0.2)  # sends it
deliver("A", "B")
before = nodes["B"].getStatus()["log_len"]
while nodes["A"]._SyncObj__raftMatchIndex[Node("B")] < 3:  # until the first value's acknowledgement arrives
    deliver("B", "A", 1)
turn("A", 0.2)  # sends again what is not acknowledged, in two messages
deliver("B", "A")  # the other acknowledgements
turn("A", 0)
deliver("A", "B", 1)  # A is lost before the second message arrives
after = nodes["B"].getStatus()["log_len"]
nodes["B"].wire._onNodeDisconnected(Node("A"))
connect_and_elect("B", "C")
print("PySyncObj", version("pysyncobj") + ": a batch that is sent again deletes acknowledged entries behind it.")
print(f"told SUCCESS: {told.count(FAIL_REASON.SUCCESS)} of 4; B's log: {before} entries, then {after}; the new leader has {nodes['B'].values}")
assert told == [FAIL_REASON.SUCCESS] * 4 and (before, after) == (6, 5) and nodes["B"]._isLeader()
assert nodes["B"].values == ["value 0", "value 1", "value 2"]
PYTHON
