"""Durable workflows replicated by Raft, inside a notebook's kernel.

    from raftoral_nb import Cluster, workflow

    @workflow
    async def greet(ctx, name):
        return await ctx.compute("greeting", str.upper, f"hello {name}")

    with Cluster(nodes=3) as cluster:
        print(cluster.start_workflow(greet, "world").wait_for_completion())

In a notebook, `%load_ext raftoral_nb` brings the `%raftoral` magics.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, cast

from .api import running_clusters as _current
from .core.version import __version__ as __version__
from .errors import (
    BadArgumentError,
    BlobMissingError,
    BlockingCallError,
    CellError,
    ClassChangedError,
    ClassChangedWarning,
    ClusterError,
    ClusterNameTakenError,
    CodecError,
    CodeNotShippableError,
    CompletionTimeoutError,
    DamagedBlobError,
    DamagedStorageError,
    DeadlineExceededError,
    DirectoryInUseError,
    FaultError,
    FaultPlanError,
    ForeignDirectoryError,
    HistoryFileError,
    InputTypeError,
    InternalError,
    KeyFileError,
    LostChangeError,
    MissingPackageError,
    NewerFormatError,
    NodeStateError,
    NonDeterminismError,
    NonDeterminismWarning,
    NonDeterministicCodeError,
    NoSuchNodeError,
    NotAcknowledgedError,
    NotAllStartedError,
    NotAwaitedError,
    NotEncryptedError,
    OutcomeUnknown,
    PortInUseError,
    ProtocolError,
    QueryFailedError,
    RaftoralError,
    ReceiveTimeoutError,
    RetryAfter,
    RunConflictError,
    RunEndedError,
    RunNotFoundError,
    RunUnfinishedError,
    ScenarioError,
    SignalRefusedError,
    SnapshotError,
    StalledError,
    StepFailedError,
    StepKeyError,
    StepTimeoutError,
    StorageError,
    StorageWriteError,
    TooManyChildrenError,
    TooManyOpenFilesError,
    TooManyWorkflowsError,
    UnknownClusterError,
    UnknownExecutorError,
    UnreadableError,
    UpdateRefusedError,
    ValueNotShippableError,
    VersionMismatchError,
    WorkerDiedError,
    WorkflowCancelledError,
    WorkflowConflictError,
    WorkflowDefinitionError,
    WorkflowFailedError,
    WorkflowNotFoundError,
    WorkflowTerminatedError,
    WrongTaskError,
)

if TYPE_CHECKING:
    from .api.attaching import attach, attachable
    from .api.cluster import Cluster
    from .api.cluster_life import StopReport
    from .api.node import Node
    from .api.progress import Progress, ProgressLook
    from .api.registry import Registration
    from .api.run import WorkflowRun
    from .api.single_node import WorkflowRuntime
    from .core.cluster_events import (
        CampaignAsked,
        ClusterRecovered,
        EffectStarted,
        ExecutionStopped,
        LinkDelay,
        MessageTaken,
        NetworkChanged,
        NodeBlocked,
        NodeChanged,
        OutputLine,
        RecoveryProgress,
        RoleChanged,
        RunHeld,
        ScenarioChanged,
        SnapshotInstalled,
        StepProgress,
        StepRetrying,
        StorageFailed,
        TransferAsked,
        UnauthenticatedConnectionsRefused,
        ValueHeld,
    )
    from .core.events import (
        BlobsDropped,
        CacheCleared,
        CancelRequested,
        CheckpointSet,
        ClusterEvent,
        EpochChanged,
        MessageSent,
        NodeOffered,
        NodeWithdrawn,
        RetentionSet,
        RunAssigned,
        RunDeleted,
        RunEvicted,
        RunMoved,
        RunPaused,
        RunResumed,
        StepBound,
        StepStateSaved,
        TimerFired,
        ValueLimitSet,
        WorkflowCancelled,
        WorkflowCompleted,
        WorkflowContinued,
        WorkflowDropped,
        WorkflowFailed,
        WorkflowRegistered,
        WorkflowStarted,
        WorkflowTerminated,
    )
    from .core.records import CachedStep, Difference, Failure, Message, Step, StepSource, TimersFired
    from .core.statistics import (
        ClusterStatistics,
        ExecutionStatistics,
        LinkStatistics,
        LogEntry,
        NodeStatistics,
        RetentionStatistics,
        RunStatistics,
        StepActivity,
    )
    from .executors.dask_factory import dask_executor
    from .executors.ipyparallel_factory import ipyparallel_executor
    from .executors.ray_factory import ray_executor
    from .faults.fault_lines import FAULTS, Fault, parse_fault
    from .faults.player import ScenarioPlay
    from .faults.scenario import SCENARIOS, Scenario
    from .raft.compaction import Compaction
    from .raft.timing import Timing
    from .storage.codec import Compression, Encryption
    from .testing import check_determinism, replay_history, workflow_test
    from .workflow.execution.running_step import RunningStep, current_step
    from .workflow.language.branches import BranchTask, TaskGroup
    from .workflow.language.child_runs import ChildRun
    from .workflow.language.context import WorkflowContext
    from .workflow.language.messages import Update
    from .workflow.language.sagas import Saga
    from .workflow.language.variables import ReplicatedVar
    from .workflow.shipping.definitions import Captured, Workflow, workflow
    from .workflow.shipping.step_function import Retry, StepFunction, step

# `raftoral_nb.workflow` is the decorator to users, though a package of ours has that name as well. Importing the package
# binds the name once; unbound again, it is looked up below like the others.
importlib.import_module(".workflow", __name__)
globals().pop("workflow", None)

# Importing the package must be quick: most of it is loaded when it is first asked for.
_HOMES = {
    "api.attaching": (
        "attach",
        "attachable",
    ),
    "api.cluster": ("Cluster",),
    "api.cluster_life": ("StopReport",),
    "api.node": ("Node",),
    "api.progress": (
        "Progress",
        "ProgressLook",
    ),
    "api.registry": ("Registration",),
    "api.run": ("WorkflowRun",),
    "api.single_node": ("WorkflowRuntime",),
    "core.cluster_events": (
        "CampaignAsked",
        "ClusterRecovered",
        "EffectStarted",
        "ExecutionStopped",
        "LinkDelay",
        "MessageTaken",
        "NetworkChanged",
        "NodeBlocked",
        "NodeChanged",
        "OutputLine",
        "RecoveryProgress",
        "RoleChanged",
        "RunHeld",
        "ScenarioChanged",
        "SnapshotInstalled",
        "StepProgress",
        "StepRetrying",
        "StorageFailed",
        "UnauthenticatedConnectionsRefused",
        "TransferAsked",
        "ValueHeld",
    ),
    "core.events": (
        "BlobsDropped",
        "CacheCleared",
        "CancelRequested",
        "CheckpointSet",
        "ClusterEvent",
        "EpochChanged",
        "MessageSent",
        "NodeOffered",
        "NodeWithdrawn",
        "RetentionSet",
        "RunAssigned",
        "RunDeleted",
        "RunEvicted",
        "RunMoved",
        "RunPaused",
        "RunResumed",
        "StepBound",
        "StepStateSaved",
        "TimerFired",
        "ValueLimitSet",
        "WorkflowCancelled",
        "WorkflowCompleted",
        "WorkflowContinued",
        "WorkflowDropped",
        "WorkflowFailed",
        "WorkflowRegistered",
        "WorkflowStarted",
        "WorkflowTerminated",
    ),
    "core.records": (
        "CachedStep",
        "Difference",
        "Failure",
        "Message",
        "Step",
        "StepSource",
        "TimersFired",
    ),
    "core.statistics": (
        "ClusterStatistics",
        "ExecutionStatistics",
        "LinkStatistics",
        "LogEntry",
        "NodeStatistics",
        "RetentionStatistics",
        "RunStatistics",
        "StepActivity",
    ),
    "executors.dask_factory": ("dask_executor",),
    "executors.ipyparallel_factory": ("ipyparallel_executor",),
    "executors.ray_factory": ("ray_executor",),
    "faults.fault_lines": (
        "FAULTS",
        "Fault",
        "parse_fault",
    ),
    "faults.player": ("ScenarioPlay",),
    "faults.scenario": (
        "SCENARIOS",
        "Scenario",
    ),
    "raft.compaction": ("Compaction",),
    "raft.timing": ("Timing",),
    "storage.codec": (
        "Compression",
        "Encryption",
    ),
    "testing": (
        "check_determinism",
        "replay_history",
        "workflow_test",
    ),
    "workflow.execution.running_step": (
        "RunningStep",
        "current_step",
    ),
    "workflow.language.branches": (
        "BranchTask",
        "TaskGroup",
    ),
    "workflow.language.child_runs": ("ChildRun",),
    "workflow.language.context": ("WorkflowContext",),
    "workflow.language.messages": ("Update",),
    "workflow.language.sagas": ("Saga",),
    "workflow.language.variables": ("ReplicatedVar",),
    "workflow.shipping.definitions": (
        "Captured",
        "CellError",
        "Workflow",
        "workflow",
    ),
    "workflow.shipping.step_function": (
        "Retry",
        "StepFunction",
        "step",
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "FAULTS",
    "SCENARIOS",
    "BadArgumentError",
    "BlobMissingError",
    "BlobsDropped",
    "BlockingCallError",
    "BranchTask",
    "CacheCleared",
    "CachedStep",
    "CampaignAsked",
    "CancelRequested",
    "Captured",
    "CellError",
    "CheckpointSet",
    "ChildRun",
    "ClassChangedError",
    "ClassChangedWarning",
    "Cluster",
    "ClusterError",
    "ClusterEvent",
    "ClusterNameTakenError",
    "ClusterRecovered",
    "ClusterStatistics",
    "CodeNotShippableError",
    "CodecError",
    "Compaction",
    "CompletionTimeoutError",
    "Compression",
    "DamagedBlobError",
    "DamagedStorageError",
    "DeadlineExceededError",
    "Difference",
    "DirectoryInUseError",
    "EffectStarted",
    "Encryption",
    "EpochChanged",
    "ExecutionStatistics",
    "ExecutionStopped",
    "Failure",
    "Fault",
    "FaultError",
    "FaultPlanError",
    "ForeignDirectoryError",
    "HistoryFileError",
    "InputTypeError",
    "InternalError",
    "KeyFileError",
    "LinkDelay",
    "LinkStatistics",
    "LogEntry",
    "LostChangeError",
    "Message",
    "MessageSent",
    "MessageTaken",
    "MissingPackageError",
    "NetworkChanged",
    "NewerFormatError",
    "NoSuchNodeError",
    "Node",
    "NodeBlocked",
    "NodeChanged",
    "NodeOffered",
    "NodeStateError",
    "NodeStatistics",
    "NodeWithdrawn",
    "NonDeterminismError",
    "NonDeterminismWarning",
    "NonDeterministicCodeError",
    "NotAcknowledgedError",
    "NotAllStartedError",
    "NotAwaitedError",
    "NotEncryptedError",
    "OutcomeUnknown",
    "OutputLine",
    "PortInUseError",
    "Progress",
    "ProgressLook",
    "ProtocolError",
    "QueryFailedError",
    "RaftoralError",
    "ReceiveTimeoutError",
    "RecoveryProgress",
    "Registration",
    "ReplicatedVar",
    "RetentionSet",
    "RetentionStatistics",
    "Retry",
    "RetryAfter",
    "RoleChanged",
    "RunAssigned",
    "RunConflictError",
    "RunDeleted",
    "RunEndedError",
    "RunEvicted",
    "RunHeld",
    "RunMoved",
    "RunNotFoundError",
    "RunPaused",
    "RunResumed",
    "RunStatistics",
    "RunUnfinishedError",
    "RunningStep",
    "Saga",
    "Scenario",
    "ScenarioChanged",
    "ScenarioError",
    "ScenarioPlay",
    "SignalRefusedError",
    "SnapshotError",
    "SnapshotInstalled",
    "StalledError",
    "Step",
    "StepActivity",
    "StepBound",
    "StepFailedError",
    "StepFunction",
    "StepKeyError",
    "StepProgress",
    "StepRetrying",
    "StepSource",
    "StepStateSaved",
    "StepTimeoutError",
    "StopReport",
    "StorageError",
    "StorageFailed",
    "StorageWriteError",
    "TaskGroup",
    "TimerFired",
    "TimersFired",
    "Timing",
    "TooManyChildrenError",
    "TooManyOpenFilesError",
    "TooManyWorkflowsError",
    "TransferAsked",
    "UnauthenticatedConnectionsRefused",
    "UnknownClusterError",
    "UnknownExecutorError",
    "UnreadableError",
    "Update",
    "UpdateRefusedError",
    "ValueHeld",
    "ValueLimitSet",
    "ValueNotShippableError",
    "VersionMismatchError",
    "WorkerDiedError",
    "Workflow",
    "WorkflowCancelled",
    "WorkflowCancelledError",
    "WorkflowCompleted",
    "WorkflowConflictError",
    "WorkflowContext",
    "WorkflowContinued",
    "WorkflowDefinitionError",
    "WorkflowDropped",
    "WorkflowFailed",
    "WorkflowFailedError",
    "WorkflowNotFoundError",
    "WorkflowRegistered",
    "WorkflowRun",
    "WorkflowRuntime",
    "WorkflowStarted",
    "WorkflowTerminated",
    "WorkflowTerminatedError",
    "WrongTaskError",
    "attach",
    "attachable",
    "check_determinism",
    "current_cluster",
    "current_step",
    "dask_executor",
    "ipyparallel_executor",
    "parse_fault",
    "ray_executor",
    "replay_history",
    "set_current_cluster",
    "step",
    "workflow",
    "workflow_test",
]


def current_cluster() -> Cluster | None:
    """The running cluster that the magics drive; else the one that was started last in this process; else None."""
    cluster: Any = _current.current_cluster()
    return cast("Cluster | None", cluster)


def set_current_cluster(cluster: Cluster | None) -> None:
    """Let this cluster be the current one for as long as it runs, whichever others are started; None ends that."""
    _current.set_current_cluster(cluster)


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if name in ("CancelledRunError", "Interrupted"):
        raise AttributeError(
            f"raftoral_nb.{name} is gone: a cancelled workflow, branch or block gets asyncio.CancelledError, as in any asyncio code"
        )
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext raftoral_nb`: load the magics, which live in `kernel_ext`."""
    importlib.import_module("kernel_ext").load_ipython_extension(shell)


def unload_ipython_extension(shell: Any) -> None:
    """`%unload_ext raftoral_nb`: take everything back and stop the cluster. `%reload_ext` keeps it."""
    importlib.import_module("kernel_ext").unload_ipython_extension(shell)
