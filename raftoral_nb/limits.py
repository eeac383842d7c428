"""The limits. Each is named here and nowhere else; passing one is a clear error."""

from __future__ import annotations

from typing import Final

MAX_NODES: Final = 9
"""Nodes of one cluster. Raft clusters are small: every node acknowledges every entry."""

MAX_VALUE_BYTES: Final = 1024 * 1024 * 1024
"""Encoded size of one input, step value, message or result, in bytes, unless `max_value_bytes` says otherwise; a larger result holds its run."""

MAX_ENCODED_BYTES: Final = 64 * 1024 * 1024 * 1024
"""The most that `max_value_bytes` may say. Of a value that takes more, no bytes are made: whatever returned it fails."""

MAX_RECORDED_BYTES: Final = 4 * 1024 * 1024
"""Encoded size of a value within the log, or of what is asked and answered without being recorded, in bytes."""

BLOB_BYTES: Final = 256 * 1024
"""Encoded size of a value, in bytes, up to which it is in the log itself; a larger one is a blob beside the log."""

MAX_COPIED_BYTES: Final = 256 * 1024 * 1024
"""Size of what one step is given, in bytes, up to which it gets a copy of its own; more is passed on as it is."""

MAX_CODE_BYTES: Final = 4 * 1024 * 1024
"""Encoded size of one workflow definition (code with all that it captured), in bytes."""

MAX_NAME_CHARS: Final = 256
"""Length of one workflow name, `run_id` or step key, in characters."""

MAX_STEP_ID_CHARS: Final = 1024
"""Length of one step_id (branch path, ordinal and key), in characters."""

MAX_FAILURE_TEXT: Final = 32 * 1024
"""Length of a recorded failure's message, and of its traceback, in characters; the middle of longer ones is left out."""

MAX_FAILURE_EXCEPTION_BYTES: Final = 256 * 1024
"""Encoded size of an exception kept in a failure, in bytes; a larger one is recorded as text only."""

MAX_ENTRY_BYTES: Final = 8 * 1024 * 1024
"""Encoded size of one Raft entry (a batch of proposals), in bytes. Larger than any single command."""

MAX_FRAME_BYTES: Final = 2 * MAX_ENTRY_BYTES + 64 * 1024
"""Size of one authenticated network frame, in bytes."""

SNAPSHOT_LOG_BYTES: Final = 8 * 1024 * 1024
"""Bytes of log that are applied before a node makes a snapshot of its state and drops what that stands for."""

LOG_KEPT_BYTES: Final = 1024 * 1024
"""Bytes of log that are kept behind a snapshot, for followers that are a little late."""

MAX_MESSAGE_ENTRIES: Final = 1024
"""Raft entries in one AppendEntries message."""

MAX_ENTRIES_IN_FLIGHT: Final = 8
"""Entries a leader appends before the first of them is committed; proposals beyond wait and share the next entry."""

MAX_OUTSTANDING_PROPOSALS: Final = 512
"""Proposals of one client (a node's incarnation) that are not yet answered; more wait their turn."""

MAX_SESSION_ANSWERS: Final = 4 * MAX_OUTSTANDING_PROPOSALS
"""Answers the state machine keeps per client, to answer repeated proposals. Invariant: > MAX_OUTSTANDING_PROPOSALS."""

MAX_SESSIONS: Final = 256
"""Clients whose answers are kept; the least recently used is forgotten first."""

MAX_RUNS_KEPT: Final = 1000
"""Finished runs whose records are kept, unless `keep_runs` says otherwise; those that were used longest ago are evicted first."""

MAX_BYTES_KEPT: Final = 1_000_000_000
"""Bytes that finished runs may keep together, unless `keep_bytes` says otherwise; those that were used longest ago are evicted first."""

MAX_KEEP_RUNS: Final = 100_000
"""The most that `keep_runs` may say."""

MAX_EVICTED_AT_ONCE: Final = 1000
"""Runs that are evicted by one command; what is still too much goes with the next run that ends."""

MAX_EVICTED_RUN_IDS: Final = 100_000
"""Evicted runs whose `run_id` stays refused, and deleted ones whose generations are known."""

MAX_UNRECEIVED_SIGNALS: Final = 1000
"""Signals and updates sent to one run that it has not received yet; more are refused."""

MAX_SIGNAL_IDS_KEPT: Final = 10_000
"""Signals and updates of one run whose repetition under the same id is recognized; the oldest are forgotten first."""

MAX_LABELS: Final = 16
"""The number of labels that a node may have."""

MAX_STEP_STATES: Final = 1000
"""Open steps of one run of which a state is saved; more cannot save one."""

MAX_CACHED_STEPS: Final = 1000
"""Results in the cache of steps; the least recently used are dropped first, here and for what follows."""

MAX_CACHE_BYTES: Final = 64 * 1024 * 1024
"""Encoded size of all results in the cache of steps, in bytes, as far as the nodes hold them in memory."""

MAX_CACHE_BLOB_BYTES: Final = 1024 * 1024 * 1024
"""Encoded size of all results in the cache of steps, in bytes, those included that are kept beside the log."""

MAX_SHOWN_INPUTS: Final = 200
"""Characters of the shortened inputs that the cache of steps keeps with a result."""

MAX_CHILDREN: Final = 1000
"""Unfinished child runs of one run."""

MAX_RUN_CHANGES_KEPT: Final = 1000
"""Pauses, resumptions, requests to cancel and continuations that the history of one run keeps; the oldest go first."""

MAX_CANCEL_SECONDS: Final = 1.0
"""Seconds that the function of an asynchronous step has to end when it is cancelled; one that has not is abandoned."""

MAX_TURN_CALLBACKS: Final = 100_000
"""Callbacks (steps of tasks among them) that the code of a workflow may run between two records."""

MAX_REASON_CHARS: Final = 1024
"""Length of the reason given for cancelling or terminating a run, in characters."""

MAX_EVENTS_KEPT: Final = 10_000
"""Cluster events kept for `%raftoral events`."""

MAX_EVENT_VALUE_BYTES_KEPT: Final = 4 * 1024
"""Encoded size of a step value or result that is kept with an event; larger ones are left out of the kept event."""

MAX_OUTPUT_LINES_KEPT: Final = 10_000
"""Captured output lines kept per cluster for `%raftoral log`."""

MAX_OUTPUT_LINE_CHARS: Final = 10_000
"""Characters of a printed or logged line that are kept."""

MAX_PROGRESS_CHARS: Final = 200
"""Characters of what a step says about its progress that are kept."""

MAX_PAUSED_MESSAGES: Final = 10_000
"""Messages buffered for a paused node; past it the sender's link is reset, as a hung process' full socket would be."""

MAX_LINK_DELAY: Final = 60.0
"""Seconds by which the way over a link can be made longer, jitter included."""

MAX_MESSAGE_BYTES: Final = 1024 * 1024
"""Bytes of entries in one AppendEntries message; one that is larger travels alone."""

MAX_APPLIED_ENTRIES: Final = 128
"""Raft entries that a node applies in one turn of its loop."""

MAX_APPLIED_BYTES: Final = 64 * 1024
"""Bytes of entries that a node applies in one turn of its loop; one that is larger is applied alone."""

MAX_RELEASED: Final = 2048
"""Entries or steps that are let go in one turn of the loop when a log or a state is dropped: freeing takes time, too."""

MAX_DEFINITIONS: Final = 1000
"""Versions of workflows that are registered at a time. Past it the oldest is dropped that is neither the latest of its workflow
nor used by an unfinished run; if there is none, no more can be registered."""

MAX_MODULE_VALUE_BYTES: Final = 256 * 1024
"""Encoded size up to which a value of a module beside the notebook is copied with a workflow's code, in bytes.

A larger one is that of the module where the code is loaded.
"""

MAX_SOURCES_SHOWN: Final = 1000
"""Cells whose text is put where tracebacks find it, for those that this process has not run itself."""

MAX_FUNCTIONS_KEPT: Final = 64
"""Workflows whose unpickled functions a node keeps; the least recently used is unpickled again when it is needed."""

MAX_WORKFLOWS_MEASURED: Final = 50
"""Workflows that metrics name, the first by alphabet; the runs of all others are counted together."""
