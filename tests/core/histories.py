"""Commands of every kind, drawn so that they meet each other, and replicas that apply them."""

from __future__ import annotations

import hypothesis.strategies as st
import msgspec

from raftoral_nb.core.apply import Applied, apply_entry
from raftoral_nb.core.blob_refs import BlobRef, encode_reference
from raftoral_nb.core.commands import (
    AssignRun,
    BindStep,
    CacheStep,
    CancelRun,
    ClearCache,
    Command,
    ContinueRun,
    DeleteRun,
    EndRun,
    Entry,
    FireTimers,
    MoveRun,
    NoteTaken,
    OfferNode,
    PauseRun,
    Proposal,
    RegisterWorkflow,
    ReserveNumber,
    ResumeRun,
    SaveStepState,
    SendSignal,
    SetCheckpoint,
    SetRetention,
    SetValueLimit,
    StartChild,
    StartRun,
    Takeover,
    TellRun,
    TerminateRun,
    WithBlobs,
    WithdrawNode,
)
from raftoral_nb.core.records import Definition, Failure, ProposalId, Step, StepSource
from raftoral_nb.core.run_record import RECORD_FORMAT
from raftoral_nb.core.state import State
from raftoral_nb.core.validation import Limits

TINY = Limits(
    value_bytes=16,
    code_bytes=16,
    session_answers=3,
    sessions=2,
    runs_kept=2,
    evicted_run_ids=2,
    definitions=2,
    unreceived_signals=2,
    signal_ids=3,
    children=2,
    step_states=1,
    cached_steps=2,
    cache_bytes=20,
)
ROOMY = Limits(
    value_bytes=16, code_bytes=16, runs_kept=2, evicted_run_ids=2, unreceived_signals=2, signal_ids=3, children=2
)

# Few names, so that commands meet each other.
nodes = st.integers(1, 2)
terms = st.integers(1, 3)
run_ids = st.sampled_from(["r1", "r2", "r3", "r4", "r5"])
blobs = st.sampled_from([encode_reference(BlobRef(digest, size)) for digest, size in (("a", 3), ("b", 50), ("c", 9))])
values = st.binary(max_size=17) | blobs
failures = st.builds(Failure, st.just("E"), st.text(max_size=17), st.just(""), st.none() | values)
outcomes = (
    st.tuples(values, st.none()) | st.tuples(st.none(), failures) | st.tuples(st.none() | values, st.none() | failures)
)
definitions = st.builds(
    Definition, st.just("w"), st.integers(1, 3), st.sampled_from("fg"), st.just("d"), st.binary(max_size=4), st.just({})
)


signal_ids = st.sampled_from(["s1", "s2", "s3", "s4"])
times = st.floats(0, 9)
taken = st.integers(0, 3)
generations = st.sampled_from([1, 1, 1, 2])


def steps(node: st.SearchStrategy[int], epoch: st.SearchStrategy[int]) -> st.SearchStrategy[Step]:
    ids = st.sampled_from(["0/a", "0/b", "1/a", "2.0.0/a"])
    plain = st.tuples(ids, st.sampled_from(["compute", "set"]), outcomes, node, epoch, times).map(
        lambda it: Step(it[0], it[1], it[2][0], it[2][1], it[3], it[4], it[5])
    )
    answers = st.tuples(ids, node, epoch, signal_ids).map(
        lambda it: Step(it[0], "answer", b"", None, it[1], it[2], message_id=it[3])
    )
    return plain | plain | answers


takeovers = st.builds(Takeover, nodes, terms)
registers = st.builds(RegisterWorkflow, definitions)
formats = st.just(RECORD_FORMAT)
starts = st.builds(
    StartRun,
    run_ids,
    st.just("w"),
    st.integers(1, 2),
    st.sampled_from([b"", b"i"]) | blobs,
    times,
    st.just(""),
    formats,
    st.sampled_from(["", "", "s1", "s2"]),
)
checkpoints = st.builds(SetCheckpoint, run_ids, steps(nodes, terms), st.sampled_from([0, 0, 1, 2]), generations, taken)
ends = st.tuples(run_ids, terms, nodes, outcomes, st.booleans(), generations).map(
    lambda it: EndRun(it[0], it[1], it[2], it[3][0], it[3][1], 0, it[4], it[5])
)


def children(node: st.SearchStrategy[int], epoch: st.SearchStrategy[int]) -> st.SearchStrategy[StartChild]:
    ids = st.sampled_from(["0/a", "1/a", "3/w"])
    step = st.tuples(ids, node, epoch).map(lambda it: Step(it[0], "child", b"c", None, it[1], it[2]))
    version = st.none() | st.integers(1, 2)
    return st.builds(
        StartChild,
        run_ids,
        step,
        generations,
        run_ids,
        st.just("w"),
        version,
        st.just(b""),
        st.booleans(),
        format=formats,
        taken=taken,
        again=st.booleans(),
    )


def timers(node: st.SearchStrategy[int], epoch: st.SearchStrategy[int]) -> st.SearchStrategy[FireTimers]:
    return st.tuples(run_ids, times, st.floats(0, 2), node, epoch, generations, taken).map(
        lambda it: FireTimers(it[0], it[1], it[1] + it[2], it[3], it[4], 0, it[5], it[6])
    )


def tellings(node: st.SearchStrategy[int], epoch: st.SearchStrategy[int]) -> st.SearchStrategy[TellRun]:
    ids = st.sampled_from(["0/t", "1/a", "4/t"])
    step = st.tuples(ids, st.sampled_from(["signal", "cancel"]), node, epoch, times).map(
        lambda it: Step(it[0], it[1], b"t", None, it[2], it[3], it[4])  # type: ignore[arg-type]
    )
    return st.builds(
        TellRun, run_ids, step, run_ids, signal_ids, st.sampled_from("ab"), values, st.just(0), generations, taken
    )


def renewals(node: st.SearchStrategy[int], epoch: st.SearchStrategy[int]) -> st.SearchStrategy[ContinueRun]:
    left = st.lists(st.integers(1, 4), unique=True).map(sorted).map(tuple)
    return st.tuples(run_ids, epoch, node, generations, values, times, left, st.integers(0, 1), st.booleans()).map(
        lambda it: ContinueRun(it[0], it[1], it[2], it[3], it[4], it[5], 0, max(it[6], default=0) + it[7], it[6], it[8])
    )


reservations = st.builds(ReserveNumber, st.integers(1, 6))
notes = st.builds(NoteTaken, run_ids, taken, nodes, terms, st.just(0), generations)


def saving(node: st.SearchStrategy[int], epoch: st.SearchStrategy[int]) -> st.SearchStrategy[SaveStepState]:
    ids = st.sampled_from(["0/a", "0/b", "1/a"])
    return st.builds(
        SaveStepState, run_ids, ids, st.integers(1, 3), values, node, epoch, st.sampled_from([0, 0, 1]), generations
    )


def caching(node: st.SearchStrategy[int], epoch: st.SearchStrategy[int]) -> st.SearchStrategy[Command]:
    sources = st.none() | st.just(StepSource("r1", "0/a"))
    ids = st.sampled_from(["0/a", "0/b", "1/a"])
    step = st.tuples(ids, values, node, epoch, sources).map(
        lambda it: Step(it[0], "compute", it[1], None, it[2], it[3], cached_from=it[4])
    )
    keys = st.sampled_from(["k1", "k2", "k3"])
    note = st.builds(
        CacheStep, run_ids, step, keys, st.sampled_from("fg"), st.just("3"), st.just(0), generations, taken
    )
    return note | note | st.builds(ClearCache, st.none() | st.sampled_from("fg"))


signals = st.builds(SendSignal, run_ids, signal_ids, st.sampled_from("ab"), values, st.booleans(), times)
asked = (
    signals
    | st.builds(CancelRun, run_ids, st.sampled_from(["", "why"]), times)
    | st.builds(PauseRun, run_ids)
    | st.builds(ResumeRun, run_ids)
    | st.builds(TerminateRun, run_ids)
    | st.builds(MoveRun, run_ids, st.integers(1, 2), st.integers(0, 2), generations)
    | st.builds(DeleteRun, run_ids, generations)
)
retentions = st.builds(SetRetention, st.none() | st.integers(0, 3), st.none() | st.integers(0, 100))
tokens = st.sampled_from(["t1", "t2"])
offers = (
    st.builds(OfferNode, nodes, tokens, st.sampled_from([True, True, False]), st.sampled_from([(), ("gpu",)]))
    | st.builds(OfferNode, nodes, tokens, st.just(True))
    | st.builds(WithdrawNode, nodes, tokens)
)
assignments = st.builds(AssignRun, run_ids, st.integers(0, 3), st.integers(-5, 0))


def bindings(node: st.SearchStrategy[int], epoch: st.SearchStrategy[int]) -> st.SearchStrategy[BindStep]:
    ids = st.sampled_from([("0/a",), ("0/b",), ("00/intent", "0/a")])
    return st.builds(BindStep, run_ids, ids, st.sampled_from(["gpu", "tpu"]), node, epoch, st.just(0), generations)


commands: st.SearchStrategy[Command] = (
    takeovers
    | registers
    | starts
    | checkpoints
    | ends
    | asked
    | children(nodes, terms)
    | timers(nodes, terms)
    | tellings(nodes, terms)
    | renewals(nodes, terms)
    | notes
    | saving(nodes, terms)
    | caching(nodes, terms)
    | offers
    | assignments
    | bindings(nodes, terms)
    | reservations
    | retentions
    | st.builds(SetValueLimit, st.integers(0, 3))
)
one = st.just(1)
lively: st.SearchStrategy[Command] = (
    starts
    | asked
    | asked
    | st.builds(SetCheckpoint, run_ids, steps(one, one), st.sampled_from([0, 0, 1]), generations, taken)
    | st.builds(SetCheckpoint, run_ids, steps(one, one), st.sampled_from([0, 0, 1]), generations, taken)
    | children(one, one)
    | children(one, one)
    | st.tuples(run_ids, outcomes, st.booleans()).map(lambda it: EndRun(it[0], 1, 1, it[1][0], it[1][1], 0, it[2]))
    | timers(one, one)
    | tellings(one, one)
    | renewals(one, one)
    | st.builds(NoteTaken, run_ids, taken, one, one, st.just(0), generations)
    | retentions
    | saving(one, one)
    | caching(one, one)
)
"""Commands that may well be accepted after the opening."""
ids = st.builds(ProposalId, st.sampled_from(["0.1.a", "0.2.b", "1.1.c", "2.2.d"]), st.integers(1, 6))
counted = st.builds(WithBlobs, commands, st.sampled_from([(), (1, 2, 3)]))
proposals = st.builds(Proposal, ids, commands | counted) | st.builds(Proposal, st.none(), takeovers)
entries = st.lists(proposals, max_size=4).map(lambda it: Entry(tuple(it)))

# A beginning after which most kinds of commands can be accepted.
OPENING_COMMANDS: list[Command] = [
    RegisterWorkflow(Definition("w", 1, "f", "d", b"", {})),
    StartRun("r1", "w", 1, b"", format=RECORD_FORMAT),
]
OPENING = Entry(
    (
        Proposal(None, Takeover(1, 1)),
        *(Proposal(ProposalId("2.9.opening", number), command) for number, command in enumerate(OPENING_COMMANDS, 1)),
    )
)


def replica(history: list[Entry], limits: Limits) -> tuple[State, list[Applied]]:
    """A state that applied the history, entries at indexes from 2, and what it said."""
    state = State(limits)
    applied = [one for index, entry in enumerate([OPENING, *history], 2) for one in apply_entry(state, index, entry)]
    return state, applied


def over_the_wire(entry: Entry) -> Entry:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(entry), type=Entry)
