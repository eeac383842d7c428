"""The session of one shell: the cluster that the magics drive, its views, and the workflows that wait for a cluster."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from typing import TYPE_CHECKING, Any, Final

import msgspec

import raftoral_nb
from raftoral_nb.errors import NonDeterminismWarning, RaftoralError, ScenarioError
from raftoral_nb.limits import MAX_NODES

from ..errors import MagicError, did_you_mean
from ..shown.display import Shown, cluster_picture, notice, registered
from ..widgets.recovery_bar import RecoveryBar
from ..widgets.support import have_widgets, is_kernel
from .cells import is_workflow
from .durable_cells import DurableCells
from .known import Known
from .pending import Definition, Pending

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from IPython.core.interactiveshell import InteractiveShell

    from raftoral_nb import Cluster, Registration, Scenario

    from ..widgets.view import ClusterView

NAME: Final = "cluster"
"""The variable of the notebook that holds the running cluster."""

_NO_CLUSTER: Final = "no cluster is running. Start one: %raftoral start"
_GET_RICH: Final = "for a picture that follows the cluster: pip install 'raftoral-nb[rich]'"
_GET_WIDGETS: Final = "for the live view: pip install ipywidgets anywidget"


class Session:
    """One shell's cluster. The magics drive the cluster they started; while there is none, the latest made in Python."""

    def __init__(self, shell: InteractiveShell, carry_out: Callable[[Cluster, str], str]) -> None:
        """`carry_out(cluster, line)` does what is asked for in the page of a view, and says what was done."""
        self._shell: Any = shell  # most of its methods are untyped
        self._carry_out = carry_out
        self._own: Cluster | None = None
        self._views: list[ClusterView] = []
        self.pending = Pending()
        self.durable = DurableCells(shell)

    # --- the cluster

    @property
    def cluster(self) -> Cluster:
        """The running cluster the magics drive. Raises `MagicError` if there is none."""
        if self._own is not None and self._own.running:
            return self._own
        current = raftoral_nb.current_cluster()
        if current is None or not current.running:
            raise MagicError(_NO_CLUSTER)
        return current

    @property
    def latest(self) -> Cluster:
        """The running cluster, or the one that was stopped last: its history can still be read. Raises `MagicError`."""
        if self._own is not None and not self._own.running and raftoral_nb.current_cluster() is None:
            return self._own
        return self.cluster

    def start(self, nodes: int | None, **options: Any) -> tuple[Cluster, str]:
        """Starts a cluster with the options of `Cluster`, and puts it into the notebook; returns it with a hint to show, or "".

        Raises `RaftoralError`.
        """
        self._refuse_second()
        if nodes is not None and not 1 <= nodes <= MAX_NODES:
            raise MagicError(f"a cluster has 1 to {MAX_NODES} nodes, not {nodes}. Example: %raftoral start --nodes 3")
        cluster = raftoral_nb.Cluster(nodes, **options)
        with RecoveryBar(cluster, kernel=self._in_kernel(), widgets=self.can_show_widgets()):
            cluster.start()
        return cluster, self._drive(cluster)

    def attach(self, name: str) -> tuple[Cluster, str]:
        """Attaches to a cluster that runs and puts it into the notebook; as `start`."""
        self._refuse_second()
        cluster = raftoral_nb.attach(name)
        return cluster, self._drive(cluster)

    def _refuse_second(self) -> None:
        if self._own is not None and self._own.running:
            ends = "leave" if self._own.outlives else "stop"
            raise MagicError(
                f"a cluster of {len(self._own.nodes)} nodes is already running. To {ends} it first: %raftoral {ends}\n"
                "More than one at a time can be made in Python: raftoral_nb.Cluster(nodes=3)"
            )

    def _drive(self, cluster: Cluster) -> str:
        before, self._own = self._own, cluster
        raftoral_nb.set_current_cluster(cluster)
        return self._put_into_notebook(cluster, before)

    def _put_into_notebook(self, cluster: Cluster, before: Cluster | None) -> str:
        space = self._shell.user_ns
        there = space.get(NAME)
        # One that was made in Python and has ended is in nobody's way.
        ended = isinstance(there, raftoral_nb.Cluster) and not there.running
        if NAME in space and there is not before and not ended:
            return (
                f"the notebook already has a `{NAME}`, which is left alone; this one is raftoral_nb.current_cluster()"
            )
        self._shell.push({NAME: cluster})
        return ""

    def leave(self) -> Shown:
        """Detaches from the magics' cluster, which keeps running. Raises `ClusterError` for one that would not."""
        cluster = self.cluster
        cluster.leave()
        raftoral_nb.set_current_cluster(None)
        for view in self._views:
            view.end()
        return notice(
            f"cluster {cluster.name} keeps running without this notebook. To attach to it again: %raftoral attach {cluster.name}"
        )

    def stop(self) -> Shown:
        """Stops the magics' cluster; a second time does nothing."""
        own = self._own
        if own is None or not own.running:
            current = raftoral_nb.current_cluster()
            if current is not None and current.running:
                raise MagicError(f"cluster {current.name} was made in Python: stop it there, with its stop() method.")
            return notice("no cluster is running")
        try:
            report = own.stop()
        finally:  # an interrupt is raised when it has stopped
            raftoral_nb.set_current_cluster(None)
            for view in self._views:
                view.end()
        if not report.stuck:
            return notice("cluster stopped")
        return notice("\n".join(("cluster stopped; code that cannot be interrupted still runs in:", *report.stuck)))

    def close(self) -> None:
        """Stops the cluster, closes its views and takes it out of the notebook. Idempotent."""
        own = self._own
        self.durable.close()
        try:
            if own is not None:
                self.stop_quietly(own)
        finally:
            views, self._views = self._views, []
            for view in views:
                view.close()
        if own is not None:
            self._shell.drop_by_id({NAME: own})
        self._own = None

    @staticmethod
    def stop_quietly(cluster: Cluster) -> None:
        """Stops it, and lets it be the current one no longer."""
        if raftoral_nb.current_cluster() is cluster:
            raftoral_nb.set_current_cluster(None)
        if cluster.running and cluster.outlives:
            cluster.leave()
        else:
            cluster.stop()

    # --- the view

    def can_show_widgets(self) -> bool:
        """True in a Jupyter kernel that has the widget packages; a terminal could not show what they draw."""
        return self._in_kernel() and have_widgets()

    def missing_widgets(self) -> str:
        """Advice on how to get the live view where only the packages for it are missing, else an empty string."""
        return _GET_WIDGETS if self._in_kernel() and not have_widgets() else ""

    def _in_kernel(self) -> bool:
        return is_kernel(self._shell)

    def in_terminal(self) -> bool:
        """True in an IPython whose output goes to a terminal."""
        return not self._in_kernel() and sys.stdout.isatty()

    def watch(self, cluster: Cluster, refresh: float) -> Shown | None:
        """Follows this cluster in the terminal until Ctrl-C; without rich, the picture as it is now, with how to get more."""
        if importlib.util.find_spec("rich") is None:
            still = cluster_picture(cluster.statistics())
            return msgspec.structs.replace(still, plain=f"{still.plain}\n\n{_GET_RICH}")
        from ..widgets.terminal_view import watch

        watch(cluster, refresh)
        return None

    def view(self, cluster: Cluster, refresh: float) -> ClusterView | None:
        """The live view of this cluster, made if there is none; None where there are no widgets."""
        if not self.can_show_widgets():
            return None
        self._views = [view for view in self._views if not view.closed]
        for view in self._views:
            if view.cluster is cluster:
                return view
        from ..widgets.view import ClusterView

        made = ClusterView(cluster, lambda line: self._carry_out(cluster, line), refresh)
        self._views.append(made)
        return made

    # --- workflows

    def register(self, definition: Definition) -> Shown:
        """Registers it now, or keeps it for the next start. Raises what `Cluster.register_workflow` raises."""
        try:
            cluster = self.cluster
        except MagicError:
            self.pending.keep(definition)
            return notice(f"{definition.name}: kept, and registered at the next %raftoral start")
        return registered(_register(definition, cluster))

    def register_pending(self) -> list[Shown]:
        """Registers all that was kept. One that fails hinders no other; `MagicError` then names those that failed."""
        shown: list[Shown] = []
        failed: list[str] = []
        for definition in self.pending.take():
            try:
                shown.append(registered(_register(definition, self.cluster)))
            except RaftoralError as problem:
                failed.append(f"{definition.name}: {problem}")
        if failed:
            done = "".join(f"\n  {one.plain}" for one in shown)
            raise MagicError(
                "the cluster is running, but not every workflow could be registered:\n  " + "\n  ".join(failed) + done
            )
        return shown

    # --- scenarios

    def own_scenarios(self) -> dict[str, Scenario]:
        """The scenarios of the notebook, by the names of their variables."""
        space = self._shell.user_ns
        return {
            name: value
            for name, value in space.items()
            if isinstance(value, raftoral_nb.Scenario) and not name.startswith("_")
        }

    def scenario(self, name: str, nodes: Sequence[int]) -> Scenario:
        """The scenario of that name: the notebook's own, else the built-in one. Raises `ScenarioError`."""
        own = self.own_scenarios()
        if name in own:
            return own[name]
        for one in own.values():
            if one.name == name:
                return one
        if name not in raftoral_nb.SCENARIOS:
            known = [*raftoral_nb.SCENARIOS, *own]
            raise ScenarioError(
                f"there is no scenario {name!r}; there are: {', '.join(known)}.{did_you_mean(name, known)}"
            )
        return raftoral_nb.Scenario.built_in(name, nodes)

    # --- completion

    def known(self) -> Known:
        """The names that Tab may offer now; none of this waits for anything."""
        functions = tuple(
            name for name, value in self._shell.user_ns.items() if not name.startswith("_") and is_workflow(value)
        )
        scenarios = (*raftoral_nb.SCENARIOS, *self.own_scenarios())
        try:
            cluster = self.cluster
        except MagicError:
            return Known(
                workflows=self.pending.names,
                functions=functions,
                scenarios=scenarios,
                clusters=raftoral_nb.attachable(),
                python=self._python_names,
            )
        runs = tuple(run.run_id for run in cluster.runs())
        return Known(
            tuple(cluster.nodes), tuple(cluster.workflows), runs, functions, scenarios, python=self._python_names
        )

    def _python_names(self, text: str) -> list[str]:
        completer = self._shell.Completer
        return list(completer.attr_matches(text) if "." in text else completer.global_matches(text))


def _register(definition: Definition, cluster: Cluster) -> Registration:
    """Registers it; what was found in its code is shown with the registration, not as a warning beside it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NonDeterminismWarning)
        return definition.register(cluster)
