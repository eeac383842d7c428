"""`%raftoral` and `%%workflow`."""

from __future__ import annotations

import re
import warnings
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, needs_local_scope, no_var_expand
from traitlets import Enum, Float, Int

import raftoral_nb
from raftoral_nb.errors import NonDeterminismWarning, NoSuchNodeError, WorkflowNotFoundError
from raftoral_nb.limits import MAX_NODES

from ..errors import MagicError, did_you_mean
from ..shown import display as shows
from ..shown.words import (
    DONE,
    DONE_TO_RUN,
    fault_words,
    healed_words,
    node_list,
    outlives_words,
    recovered_words,
    signal_words,
)
from ..widgets import bars, buttons
from .cells import async_functions, choose, resolve, run_cell
from .dropped import value_is_dropped
from .help import RAFTORAL_HELP, WORKFLOW_HELP
from .parsing import (
    LOG_LEVELS,
    Attach,
    Break,
    Check,
    Entries,
    Events,
    History,
    Log,
    Metrics,
    Move,
    OnNode,
    OnRun,
    Parsed,
    Play,
    Register,
    Run,
    Runs,
    Send,
    Simple,
    Start,
    parse,
    parse_workflow_line,
)
from .pending import Definition
from .session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from IPython.core.interactiveshell import InteractiveShell

    from raftoral_nb import Cluster, Fault, Scenario, WorkflowRun

    from ..shown.display import Shown
    from .parsing import NodeName

_FILLED_IN: Final = re.compile(r"--(?:id|version)[\s=]+\S*[${]")
"""An id that IPython was expected to put together."""

LOG_LINES_SHOWN = 200
"""Lines of `%raftoral log` without `--last`."""
ENTRIES_SHOWN = 10
"""Entries of each log in `%raftoral entries` without `--last`."""
EVENTS_SHOWN = 20
"""Events of `%raftoral events` without `--last`."""


@magics_class
class RaftoralMagics(Magics):
    """The magics of one shell. Their defaults can be set: `%config RaftoralMagics.nodes = 5`."""

    nodes = Int(3, min=1, max=MAX_NODES, help="Nodes of a cluster when `start` has no --nodes.").tag(config=True)
    log_level = Enum(
        LOG_LEVELS, default_value=None, allow_none=True, help="What the engine logs when `start` has no --log-level."
    ).tag(config=True)
    refresh_rate = Float(20.0, min=0.1, max=60.0, help="How often a second the live view is redrawn, at most.").tag(
        config=True
    )

    def __init__(self, shell: InteractiveShell, session: Session) -> None:
        super().__init__(shell)
        self.session = session

    @no_var_expand
    @needs_local_scope
    @line_magic
    def raftoral(self, line: str, local_ns: dict[str, Any] | None = None) -> Any:
        """Drives the cluster; see `kernel_ext/magics/help.py` for what is shown as help."""
        # A `;` at the end says, as everywhere in IPython, that the value shall not be shown.
        line, silent = (line.rstrip()[:-1], True) if line.rstrip().endswith(";") else (line, False)
        parsed = parse(line)
        result = self._done(parsed, local_ns)
        if result is None or (silent and not isinstance(parsed, Run | Send)):
            return None
        if not silent and value_is_dropped():
            # IPython would show it in the last line of a cell only, and in no loop.
            shows.emit(result)
            return None
        return result

    raftoral.__doc__ = RAFTORAL_HELP

    def _done(self, parsed: Parsed | None, local_ns: dict[str, Any] | None) -> Any:
        """Carries it out, and returns what is to be shown or used: None where it was shown already."""
        match parsed:
            case None:
                result: Any = shows.short_help()
            case Start():
                result = self._start(parsed)
            case Attach(name=name):
                result = self._attach(name)
            case Register():
                target = resolve(parsed.workflow, self._names(local_ns))
                definition = Definition(parsed.workflow, parsed.version, target, parsed.strict)
                return shows.emit(self.session.register(definition))
            case Run():
                return self._run(parsed, self._names(local_ns))
            case Move(run_id=run_id, version=version):
                self.session.cluster.run(run_id).move_to_version(version)
                result = shows.notice(
                    f"run {run_id} was moved to version {version}: every node executes it anew, with its steps"
                )
            case Check():
                result = self._check(parsed, self._names(local_ns))
            case OnNode():
                return shows.emit(self._on_node(parsed.name, parsed.node))
            case Break():
                return shows.emit(self._break(parsed.fault))
            case Play():
                result = self._scenario(parsed)
            case Log():
                result = self._log(parsed)
            case Events():
                history = self.session.latest.history()
                last = history[-(parsed.last or EVENTS_SHOWN) :]
                result = shows.events(last, times=parsed.times, omitted=len(history) - len(last))
            case Entries(last):
                result = self._entries(last or ENTRIES_SHOWN)
            case Metrics():
                result = self._metrics(parsed)
            case Simple(name="stop"):
                return shows.emit(self.session.stop())
            case Simple(name="leave"):
                return shows.emit(self.session.leave())
            case Simple(name="status"):
                result = shows.cluster_picture(self.session.latest.statistics())
            case Runs():
                since = None if parsed.since is None else timedelta(seconds=parsed.since)
                found = self.session.latest.runs(status=parsed.status, workflow=parsed.workflow, since=since)  # type: ignore[arg-type]
                result = shows.runs(found)
            case History():
                result = shows.events(self.session.latest.run(parsed.run_id).history(), times=parsed.times)
            case Send():
                return self._send(parsed, self._names(local_ns))
            case OnRun():
                return shows.emit(self._on_run(parsed))
            case Simple(name="watch"):
                result = self._watch()
            case Simple(name=name):
                raise MagicError(f"{name} is known and does nothing: this is a bug of raftoral_nb.")
        return result

    @no_var_expand
    @cell_magic
    def workflow(self, line: str, cell: str) -> None:
        """Runs the cell and registers its workflow; see `kernel_ext/magics/help.py` for what is shown as help."""
        __tracebackhide__ = True
        wanted = parse_workflow_line(line)
        assert self.shell is not None
        source = run_cell(self.shell, cell)
        function = choose(async_functions(source), wanted.name)
        target = resolve(function, self.shell.user_ns)
        name = wanted.name or str(getattr(target, "name", function))
        shows.emit(self.session.register(Definition(name, wanted.version, target, wanted.strict)))

    workflow.__doc__ = WORKFLOW_HELP

    def _names(self, local_ns: dict[str, Any] | None) -> dict[str, Any]:
        """What the line can see: the notebook's names, and those of the function it stands in, if any."""
        assert self.shell is not None
        space = self.shell.user_ns
        return space if local_ns is None or local_ns is space else {**space, **local_ns}

    def _start(self, asked: Start) -> Shown:
        nodes = asked.nodes
        if nodes is None and (asked.data_dir is None or raftoral_nb.Cluster.nodes_in(asked.data_dir) is None):
            nodes = self.nodes
        cluster, hint = self.session.start(
            nodes,
            log_level=asked.log_level or self.log_level,
            data_dir=asked.data_dir,
            durability=asked.durability,
            timing=asked.timing,
            **({} if asked.compaction is None else {"compaction": asked.compaction}),
            processes=asked.processes,
            detach=asked.detach,
        )
        if cluster.recovered is not None:
            hint = "\n".join(filter(None, (recovered_words(cluster.recovered), hint)))
        if cluster.unlisted is not None:
            hint = "\n".join(filter(None, (hint, f"raftoral-nb ps does not show this cluster: {cluster.unlisted}")))
        if asked.detach:
            hint = "\n".join(filter(None, (hint, outlives_words(cluster.name))))
        return self._show_start(cluster, hint)

    def _attach(self, name: str) -> Shown:
        cluster, hint = self.session.attach(name)
        told = f"attached to cluster {cluster.name}, which goes on without this notebook: %raftoral leave"
        return self._show_start(cluster, "\n".join(filter(None, (told, hint))))

    def _show_start(self, cluster: Cluster, hint: str) -> Shown:
        for registration in self.session.register_pending():
            shows.emit(registration)
        view = self.session.view(cluster, self.refresh_rate)
        hints = "\n".join(filter(None, (hint, self.session.missing_widgets())))
        return shows.started(tuple(cluster.nodes), None if view is None else view.model_id, hints)

    def _metrics(self, asked: Metrics) -> Shown:
        if asked.how == "show":
            return shows.page(self.session.latest.metrics())
        cluster = self.session.cluster
        if asked.how == "serve":
            server = cluster.serve_metrics(asked.port)
            return shows.notice(
                f"metrics are served to this machine at {server.address}; to end it: %raftoral metrics --stop"
            )
        if cluster.metrics_server is None or not cluster.metrics_server.running:
            raise MagicError("the metrics are not served. To do so: %raftoral metrics --serve")
        cluster.metrics_server.stop()
        return shows.notice("metrics are served no more")

    def _watch(self) -> Shown | None:
        cluster = self.session.cluster
        if self.session.in_terminal():
            return self.session.watch(cluster, self.refresh_rate)
        view = self.session.view(cluster, self.refresh_rate)
        return shows.cluster_picture(cluster.statistics()) if view is None else view.still()

    def _check(self, asked: Check, names: dict[str, Any]) -> Shown:
        target = resolve(asked.workflow, names)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", NonDeterminismWarning
            )  # this looks at what it does, not at how it is written
            checked = raftoral_nb.check_determinism(target, _evaluate(asked.expression, names))
        return shows.notice(str(checked))

    def _run(self, asked: Run, names: dict[str, Any]) -> WorkflowRun[Any]:
        cluster = self.session.cluster
        if asked.workflow not in cluster.workflows:
            known = ", ".join(cluster.workflows) or "none yet"
            here = asked.workflow in names
            how = (
                f" Register it first: %raftoral register {asked.workflow}"
                if here
                else did_you_mean(asked.workflow, cluster.workflows)
            )
            raise WorkflowNotFoundError(f"no workflow {asked.workflow!r} is registered (there are: {known}).{how}")
        value = _evaluate(asked.expression, names)
        return cluster.start_workflow(asked.workflow, value, version=asked.version, run_id=asked.run_id)

    def _send(self, asked: Send, names: dict[str, Any]) -> Any:
        run = self.session.cluster.run(asked.run_id)
        value = _evaluate(asked.expression, names)
        if asked.kind == "query":
            return run.query(asked.name, *((value,) if asked.expression else ()))
        if asked.kind == "button":
            return buttons.signal_button(run, asked.name, value if asked.expression else True)
        if asked.kind == "progress":
            return bars.progress_bar(run, asked.name, value)
        if asked.kind == "update":
            return run.update(asked.name, value)
        run.signal(asked.name, value)
        return shows.emit(shows.notice(signal_words(asked.run_id, asked.name)))

    def _on_run(self, asked: OnRun) -> Shown:
        run = self.session.cluster.run(asked.run_id)
        match asked.name:
            case "cancel":
                run.cancel(asked.reason)
            case "terminate":
                run.terminate(asked.reason)
            case "pause":
                run.pause()
            case "resume":
                run.resume()
        return shows.notice(f"run {asked.run_id} {DONE_TO_RUN[asked.name]}")

    def _on_node(self, command: str, node: NodeName) -> Shown:
        cluster = self.session.cluster
        act: Callable[[NodeName], int] = getattr(cluster, command)
        number = act(node)
        who = f"node {number}, the {node}," if node in ("leader", "follower") else f"node {number}"
        return shows.notice(f"{who} {DONE[command]}")

    def _break(self, fault: Fault) -> Shown:
        cluster = self.session.cluster
        if fault.name == "heal":
            return shows.notice(healed_words(cluster.heal(*fault.places)))
        if fault.name == "add":
            return shows.notice(f"node {cluster.add()} joined: the cluster has {len(cluster.nodes)} nodes")
        return shows.notice(fault_words(cluster.cause(fault)))

    def _scenario(self, asked: Play) -> Shown:
        if asked.how == "stop":
            play = self.session.cluster.play
            if play is None or play.status != "running":
                raise MagicError("no scenario is being played. All of them: %raftoral scenario")
            play.stop()
            return shows.notice(f"scenario {play.scenario.name}: {play.status}; what it broke stays so: %raftoral heal")
        if asked.name is None:
            return shows.scenarios({**raftoral_nb.SCENARIOS, **_described(self.session.own_scenarios())})
        cluster = self.session.cluster
        scenario = self.session.scenario(asked.name, tuple(cluster.nodes))
        if asked.how == "show":
            return shows.page(str(scenario))
        play = cluster.scenario(scenario)
        if asked.how == "play":
            idle = scenario.needs_run and not any(run.status == "running" for run in cluster.runs())
            hint = "\nit waits for a run: start one now" if idle else ""
            return shows.notice(
                f"scenario {scenario.name} is played beside the notebook; what it does: %raftoral events; "
                f"to end it: %raftoral scenario --stop{hint}"
            )
        try:
            for line in play:
                print(line, flush=True)  # noqa: T201 - the lines are what was asked for
        except KeyboardInterrupt:
            play.stop()
            raise
        play.wait()
        return shows.notice(f"scenario {scenario.name}: {play.status}")

    def _entries(self, last: int) -> Shown:
        cluster = self.session.latest
        nodes = cluster.statistics().nodes
        first = max(node.log_length for node in nodes.values()) - last
        # The same stretch of every log, however short some of them are.
        stretch = {number: max(0, node.log_length - first) for number, node in nodes.items()}
        logs = {number: cluster.nodes[number].entries(count) if count else () for number, count in stretch.items()}
        return shows.entries(logs, {number: node.snapshot_index for number, node in nodes.items()})

    def _log(self, asked: Log) -> Shown:
        cluster = self.session.latest
        if asked.run_id is not None:
            cluster.run(asked.run_id)  # says so if there is no such run
        if asked.node is not None and asked.node not in cluster.nodes:
            raise NoSuchNodeError(f"there is no node {asked.node}: the nodes are {node_list(cluster.nodes)}")
        lines = cluster.log(run_id=asked.run_id, node=asked.node)
        last = lines[-(asked.last or LOG_LINES_SHOWN) :]
        return shows.log(last, times=asked.times, omitted=len(lines) - len(last))


def _described(scenarios: dict[str, Scenario]) -> dict[str, str]:
    return {name: scenario.description or "(of this notebook)" for name, scenario in scenarios.items()}


def _evaluate(expression: str, names: dict[str, Any]) -> Any:
    """The value of the input expression; None for an empty one. Raises `MagicError`."""
    if not expression:
        return None
    try:
        code = compile(expression, "<input of the run>", "eval")
    except (SyntaxError, ValueError) as problem:
        why = problem.msg if isinstance(problem, SyntaxError) else str(problem)
        advice = 'Flags stand directly after the workflow\'s name, or last. Example: %raftoral run order {"item": "A1"}'
        if _FILLED_IN.search(expression):
            advice = (
                "$name and {name} are not replaced in a line of %raftoral. Such an id is given in Python: "
                'cluster.start_workflow("order", "A1", run_id=f"order-{n}")'
            )
        raise MagicError(f"the input is not one Python expression ({why}): {expression}\n{advice}") from None
    try:
        return eval(code, names)  # noqa: S307 - it is the user's own expression
    except Exception as problem:
        raise MagicError(
            f"the input expression raised {type(problem).__name__}: {problem}\n  {expression}"
        ) from problem
