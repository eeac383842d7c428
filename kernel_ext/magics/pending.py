"""Workflows that wait for a cluster, and how a workflow of the notebook is handed to one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

import raftoral_nb

if TYPE_CHECKING:
    from raftoral_nb import Cluster, Registration


class Definition(msgspec.Struct, frozen=True):
    """A workflow of the notebook: `target` is a `Workflow` or an `async def`; `version` None means the next one."""

    name: str
    version: int | None
    target: Any
    strict: bool = False

    def register(self, cluster: Cluster) -> Registration:
        """Hands it to the cluster; raises what `Cluster.register_workflow` raises."""
        target, version = self.target, self.version
        if isinstance(target, raftoral_nb.Workflow):
            if target.name == self.name and version is None:
                return cluster.register_workflow(target, strict=self.strict)
            # Under another name or version it is only its function that counts, but a version it names is kept.
            version = target.version if version is None else version
            target = target.fn
        if version is None:
            return cluster.register_workflow(self.name, target, strict=self.strict)
        return cluster.register_workflow(self.name, version, target, strict=self.strict)


class Pending(msgspec.Struct):
    """Workflows that cells defined while there was no cluster; the latest of a name and version counts."""

    _waiting: dict[tuple[str, int | None], Definition] = msgspec.field(default_factory=dict)

    def keep(self, definition: Definition) -> None:
        """Keeps it until the next start, in place of an earlier one of that name and version."""
        key = (definition.name, definition.version)
        self._waiting.pop(key, None)
        self._waiting[key] = definition

    def take(self) -> tuple[Definition, ...]:
        """All that waits, in the order it was last defined; none of it waits any longer."""
        taken = tuple(self._waiting.values())
        self._waiting.clear()
        return taken

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what waits."""
        return tuple(dict.fromkeys(definition.name for definition in self._waiting.values()))
