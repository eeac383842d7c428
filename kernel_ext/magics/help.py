"""The texts of `%raftoral?` and `%%workflow?`."""

from __future__ import annotations

from typing import Final

from ..shown import html
from .parsing import LINK_COMMANDS, MESSAGES, NODE_COMMANDS, RUN_COMMANDS, SUBCOMMANDS, USAGE

RAFTORAL_HELP: Final = """\
Durable workflows on a Raft cluster inside this kernel.

Cluster
  %raftoral start                       start a cluster of 3 nodes, show the live view
  %raftoral start --nodes 5             any number from 1 to 9
  %raftoral start --data-dir lab         keep it in a directory: after the kernel died, the same line goes on from there
  %raftoral start --data-dir lab --durability disk   synced before it is acknowledged: survives a power loss as well
  %raftoral start --processes           each node a process of its own, on a core of its own; kill is a SIGKILL then
  %raftoral start --processes --data-dir lab --detach   ... that go on without the notebook, until they are stopped
  %raftoral attach lab                  drive such a cluster from this notebook (`raftoral-nb ps` in a shell lists them)
  %raftoral leave                       let go of it: it goes on
  %raftoral start --log-level info      also show what the engine logs (debug, info, warning, error)
  %raftoral start --heartbeat 200ms --election-timeout 1s-2s
                                        a patient leader, for a busy machine; either one alone takes the other along
  %raftoral start --snapshot-after 20kB --keep-log 4kB
                                        how much is logged until a node makes a snapshot, and how much stays behind it
  %raftoral stop                        stop it; names user code that is still running
  %raftoral status                      nodes and runs as they are now, as a table
  %raftoral entries --last 5            the logs of the nodes side by side: which entries are committed, and who has them
  %raftoral watch                       the live view: nodes, links, logs and runs; breaks them by click and key
                                        (in a terminal: as text that follows the cluster, until Ctrl-C; needs rich)

  %raftoral metrics                     counters and gauges as OpenMetrics text, as Prometheus reads it
  %raftoral metrics --serve --port 9464 the same over HTTP, to programs of this machine; --stop ends it

  The running cluster is `cluster` in the notebook (if that name is free), and raftoral_nb.current_cluster().

Workflows and runs
  %%workflow                            a cell magic: runs the cell, registers its last `async def` (see %%workflow?)
  %raftoral register order              register a function or Workflow that the notebook already has
  %raftoral register order --version 2  ... under that version; --strict refuses what is not deterministic
  run = %raftoral run order {"item": "A1"}
                                        start a run; the rest of the line is one Python expression, None if left out
  run = %raftoral run order Order(item="A1") --id order-1
                                        a run id of your own: doing it again gives the same run, not a second one
  run = %raftoral run order --version 2 {"item": "A1"}
                                        flags stand directly after the name or last
  run.wait_for_completion(timeout=10)   wait for the result; so does: await run
  %raftoral check order {"item": "A1"}  is the workflow deterministic? runs it on a virtual clock, with a failover at every step
                                        (its steps have their effects each time, in this process)
  %raftoral move order-1 2              have an unfinished run go on with version 2, if that fits its record
  %raftoral runs                        every run with its status and recorded steps
  %raftoral runs --status failed --workflow order --since 5m
                                        those that fit; a time is 200ms, 30s, 5m, 2h or 1d
  %raftoral history order-1             everything that is recorded of a run; --times adds the time of each
  %raftoral signal order-1 approve True send a signal, which `await ctx.receive("approve")` returns
  %raftoral update order-1 limit 100    the same, and shows what the workflow answers
  %raftoral query order-1 progress      what the workflow gave to ctx.on_query says
  %raftoral progress train-1 epoch 10   a bar that follows the variable `epoch` up to 10, until the run ends
  %raftoral button order-1 approve      a button that sends that signal: the human in the loop (with True, or another value)
  kernel_ext.signal_buttons(run, "approve", {"Yes": True, "No": False})
                                        a button for each answer, in Python
  %raftoral cancel order-1 not wanted   ask a run to end, which may clean up; the rest of the line is the reason
  %raftoral terminate order-1           end it at once
  %raftoral pause order-1               begin no new step of it (or: resume order-1)
  %raftoral log                         what workflows printed and logged, by run and node
  %raftoral log order-1 --node 2 --last 20
                                        of one run, one node, only the last lines; --times adds the time of each
  %raftoral events --last 10            what happened, in order; --times adds the time of each

  A workflow takes copies of what it needs along when it is registered: the line printed then says what, and how large.
  Later changes of those values are seen in neither direction; register it again to take them along anew.

Break it
  %raftoral kill leader                 end the leading node (or: kill 2); only its journal stays
  %raftoral restart 2                   start it again from its journal
  %raftoral pause 3                     freeze a node, as a hung process (or: pause leader)
  %raftoral resume 3                    ... and let it go on
  %raftoral hold 3                      stop only its execution of workflows: its catch-up queue grows (or: hold leader)
  %raftoral release 3                   ... and let it drain
  %raftoral partition 1 / 2 3           cut every link between the groups; nodes in none of them form one more
  %raftoral isolate leader              cut all links of a node (or: isolate 2)
  %raftoral cut 1-2                     cut one link; --one-way loses only what node 1 says to node 2
  %raftoral slow 2 --delay 200ms --jitter 50ms
                                        every message of a node takes longer, each way; slow 1-2: over one link
  %raftoral heal                        mend all links (or: heal 2, heal 1-2)
  %raftoral transfer 3                  hand leadership to a node, and wait until it leads
  %raftoral campaign 2 3                have nodes ask for votes in the same moment; without numbers: all followers

  %raftoral add                         start a new node, and make it a member, under a number that none had before
  %raftoral remove 2                    take a node out for good, dead or alive (or: remove leader, remove dead)

  `follower` is the first follower, as in: cut leader-follower. What undoes something takes what it was done to:
  restart dead, resume paused, release held.

  %raftoral scenario                    sequences of faults that can be repeated, and what each shows
  %raftoral scenario late-follower      play one beside the notebook; --wait waits and prints what it does, --show prints
                                        the lines that do the same, and `scenario --stop` ends the one that is played
  mine = raftoral_nb.Scenario("mine", [("step started", "isolate leader"), ("leader changed", "heal")])
                                        one of your own; then: %raftoral scenario mine

Defaults
  %config RaftoralMagics                nodes, log_level, refresh_rate (of the view, in Hz)
"""

WORKFLOW_HELP: Final = """\
Run the cell, and register the workflow it defines.

  %%workflow
  async def order(ctx, item):
      await ctx.compute("charge", charge, item)
      return "done"

  %%workflow                  the last top-level `async def` of the cell, under its own name
  %%workflow order            the one of that name; if there is none, the last one, under the name `order`
  %%workflow order --version 2
  %%workflow --strict         refuses code that is not deterministic, where else it is only pointed at

The cell runs as any other. Functions, classes and imports of other cells go along. Without a cluster the workflow is kept, and
registered at the next %raftoral start. Running an unchanged cell again does nothing; a changed one without --version takes the
next version. An existing version can be replaced as long as no unfinished run uses it.
"""


GROUPS: Final = {
    "Cluster": ("start", "attach", "leave", "stop", "status", "entries", "events", "watch", "metrics"),
    "Workflows and runs": (
        *("register", "run", "check", "move", "runs", "history", "log"),
        *MESSAGES,
        *RUN_COMMANDS,
    ),
    "Break it": (*NODE_COMMANDS, *LINK_COMMANDS, "scenario"),
}
"""The subcommands, as `%raftoral` alone lists them."""

_LEAD: Final = "Examples of each: %raftoral?"
_NAMES_WIDTH: Final = 38
"""Columns of what is typed; where that is longer, what it does stands in the next line."""


def short_help() -> str:
    """What there is, for `%raftoral` alone, as text."""
    lines = [f"%raftoral SUBCOMMAND. {_LEAD}"]
    for group, names in GROUPS.items():
        lines += ["", group]
        for name in names:
            usage = f"  {USAGE[name]}"
            if len(usage) > _NAMES_WIDTH:
                lines.append(usage)
                usage = ""
            lines.append(f"{usage:<{_NAMES_WIDTH}}  {SUBCOMMANDS[name]}")
    return "\n".join(lines)


def short_help_html() -> str:
    """The same as a table."""
    groups = {
        group: [(f"%raftoral {name}", USAGE[name].removeprefix(name).strip(), SUBCOMMANDS[name]) for name in names]
        for group, names in GROUPS.items()
    }
    return html.commands_html(_LEAD, groups)
