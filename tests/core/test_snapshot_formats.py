"""Bytes that were written once are read for ever: snapshots of both formats, and a log of the first.

`FIRST` was made by raftoral-nb at commit 7d5001e: forty entries of a log, and the snapshots for half of it and for all of it. In them
runs received, joined, slept, were cancelled, moved, paused, began anew and ended. `SECOND` is a snapshot of `every_kind()`.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any, Final

import msgspec
import pytest

from raftoral_nb.core.apply import apply_entry
from raftoral_nb.core.commands import (
    CancelRun,
    ContinueRun,
    FireTimers,
    MoveRun,
    RegisterWorkflow,
    SendSignal,
    SetCheckpoint,
    StartRun,
)
from raftoral_nb.core.entry_codec import decode_entry
from raftoral_nb.core.records import CancelRecord, Message, MoveRecord, Step, TimersFired
from raftoral_nb.core.run_record import RECORD_FORMAT
from raftoral_nb.core.snapshot import Frozen, Reader
from raftoral_nb.core.state import State, summary
from raftoral_nb.core.validation import Limits
from raftoral_nb.errors import SnapshotError
from tests.core.commands import FAILURE, checkpoint, definition, done, end, propose, refusal, running
from tests.core.histories import TINY

OF_FIRST: Final = msgspec.structs.replace(
    TINY, **{name: getattr(Limits(), name) for name in ("step_states", "cached_steps", "cache_bytes")}
)
"""The limits with which `FIRST` was made; those that came later have their usual values."""

FIRST: Final = """
eNrtWU9s29YZ5yPd1ViBIRmSIgcfiGyYk2JITVLyn+6woLt2h50HTKCoZ4u1RAkkZSU7uXGwBNthMeUiS3uxE1uynXQphl126YhE7sUDdl2BYccNu/W24/bx
PT7+pyzLTLICMZDApp7e9+f9vt/3+x63/s5dGT5weo7b27fVVdxawyZCjvNYvrZ0rdXGhm6sIGffxCu6ZWPzzn63Za4uN1rdne4Allp6y0CPl2ERNtumbtg7
y/2avoIte6e2q7VqeMgNrFbH1LC1ftBUa7jS1e36enx//v6eZaum/dCUdrpoyB1z/s+2O+yDa86eck26duMEN/iYGyvjuUF3Dh2QPQeQfnx92veALRHu9y19
xVAb4ORDa2lHHaK1Z8fXL9Bl7tAlfpaIn+FS+aElsaWX6FK2io+tKpFVz4+vn4uvEj4+1OpYW223ICgwfXcA4bcreu1R+d3qAeTPVG2IfWBiDetreG9NbXS8
YJdVvdExsbtrQPBoD7dbWh09VO3AjcMmtix1BcNWEA6H3OE9B372yiSCT/e0ut6ogcE7gcH5d9XQIP3cN4e0fHs//praQw81yK075J6RnJYTKYCclneqJFHs
G+4R4NBL6jxxKZ4IOUxEKerX+IlgGIslouRBnxrkgxwoYQ6UiXLADhXBXiQHz0kO5hO4klkOAAYiw9UfSQoWSAp6fRNbnSaGdAXusw/5Tx5howZJRoBf0+We
oQDDbImQm8LyZCnMxFI5xNLi6IObKxDBEoeYQb6311Y7FmRJPr7OBVh6nyRyKcOlSFEtTpYIBtlkIpjBEEtyFEvVSbA0nawntM3MCNmQncjM5QRkn3lk/Fvv
WPvSHEkiBZyphIALMemvyayhuclq6FK6htzhF96h9iUpTbulFO36y1ihSJFCuZxYk8+6UtT53Q/h8zEAO51Cx6Nva7JXJ89oQmXi/+/2tZZh60bHK3DkuWeE
YQfL+Fzf4uRkNTBuU+dc5tvtA/tmG1cMtYl3fjLw3dnRDmxT1XBV1Va3D/ANDbe9DfLjONBUQ8ONBq4992L4Lz0DJavY7+S0K63VbHdsVlnoxojk+R0WocAI
n8soyiSnI+acTmAvTtEKAxajluHf6CGWTmK74jhWod6VsrJxJ5vMongYmXBWxN7R/oVGVs4izRxh8Mhodcc5Vr8lcnxgIJMsFoppuIS93nE2PWPzWcXGk2I7
F5zpfyioFxLEIkXOXwxJYyGX5JcmYt9QNIX+B3aE3AOPkdNpauxyeOSzNEmLEYqPaYpA8P6bZmhpBPVGMrQ0unBLsTS9FOqihEL7ZhQMSoJ5IdQaCVWeywJD
Ndll6DI+3R1Z6oI1wse7TRi3IBH8W5D5f1Ir0kkK5eVnSgj84hOZomUzE/Z9ukzwo5fT2sAd/oAgTKY9Lz54ccFeUK5f03woaYDJaYDJWZ1ByhHu43IUi0sI
DCRqL6ZqJuxvgRF3+DNCt3JyiFTCiCMKS05OkUpkfAiq9AHdshwt54jyYUQTrOGLlsbMlUT/gmg/pTiYH413+QWLGpaBqKgB535K87aQPopyBvgW4pcI6VuM
FsXyYnq7UsbJLqaHY4mdbHKZEA6FSuTc/SJbyiyyiGMUcspcFovHR9FgGZ+97DIz7dAtpfhFgnInh8JO29OFeE9UMnlJILwUcs6/qE9yBtaUHHF/CohPZ0Bc
5qYCi3yuRWVCizPZFt1hlQBNoaS51aegBgQ96tZvRjuQ4vMl60DoLRQ8FTIA+jyI0h12CLaU0kmFWy1slJa8krxLzzD/gupsg6UAxBjFVTn3LmH4V+rJfK4n
5ckQHnpCR/vnaDuww48nv/uqYXWxOU7j4cLGQ0WfspDTJRjcXHJRDAsX03QRKKFzIcYoj6VQOJNYEVELbiaZb2dzOeQnIitc6tpSSt3LTNBFZIqyNLouJ72a
yqrLMj8VWBQyFPU5FsEHBFaluUTtyiRrkU5dyqBhOdX5P6G7SVnyqZpsOXTZmFcLZ7r28Er5wREabjmcg37Tb+hN3bZ+/ZjsVqnetLF17tC7sPd/f2rBl8Fm
heLaEvb9BxZ/YHYMq7IKYOCf4jVds3GtAo/AjMU/ruFl3dBtsvAPHcM/wVqFpsHiD+kv3mJhnxSoiQ1+Tzdq+MZVGsQtGtGujc0mAig2q2D/3u/r+kodW3aF
PuA+Z39DF8YmmOD2PctWHdccL9ua9Blzrqqbdn0WkNlsqkbNen+ADdvUsXXlcZh1a8ZBRb1jQUW9JeE/OmQvXiCqHogIDv7j0RH6xaYj/IM7T77M9Wn2ATiQ
R5C/UHSHRHhA7KrN9+F3u2MNYJX30ofIloYdyDj3cAUbPsIE+r2KrTdxANN9qBzyxI0c3gbUlwvsA/8k9zNaMnAUqgUqH8qm31bhXG03OOL1/a5qQ7pNa32g
1VXIhNXbiJJvnz49rOIV1RBVA3f7dLsnoXuivBFVJGN9RdmIqmH/K09UaxXXRLslQmz9iNv0VLaP+NubztT9Vzr9FTNDjTdHoLXTDhKvdFAYT+yMCipb7RQl
aYoSJEfobs+Z2ixMcjjTm79KdIXdVaBe6tiud0DAm2xDM9gwCqiQd1DAOzLjHT3CO4LPOwfeTN7A8NBnnujOEe5BUe5h9RBwT/jaMMZBJZfxUJyD3HEIaHMj
mhyfGvpEdzJS2A4Z4YM4I5QmLKfs15/jvRIcWaaZ7wTHU1an3lcq6m1ace8pxtBMEdyN+zZivNcIp86fcoR+DnDaKuqdQVH33sVdab/SK+Yj9OfNLJ5SsvTR
+VPoo6koR7Gk5ekj2eemUoKb/gTCW6T0JM6a8qxYVy1PhwDp0KdAqKNoa2ti3TRzat3EcSfqpvxwsuh1tNFSQLfoyy1nyhnvimhk+WXeERVAi5kTZ6LBwtmT
/trvtGuqjUmD3VHTu0cdzcCtxnQ9F4Ht987UXi8l22sQTwjh9eyWCmPGKHTeY0fovLEJ8/YRutdzvsVm59sHDRVGNq/BXhnUW6b+y5bBDfwR8xba2PWIYN/E
H2LNDnrwF5CGBLLEK0HUV0muvJm0Qj7ii9ikD6MbxOAgnvguJXy/+nJ9/+odD63iLDS2WbG1LNI9pVlRt0RAbMv0dlUbsLh2k+z4uf9HhX0aiefN797//74F
eLuwWwBNBiaN3wJcCG4BrrJbgIvRW4Dz36hbgKfOq78FWDqLAndezhVAQElTm690pD9CP3JSLUKhLYImdXSLEF+PYK9HsNcjWEEjGP995/UI9qKoLkvGyhky
9o2zUFRqAgvlfmEy9gitv5hZUhh7llwvdn7sfVPmx/AILpIZQk7q8IspHb6BbhEJ7cEJpC2cChWVF/mc50LOc18x9xAvENNywvTbKdMf5YwAX70XzABdiMwH
i+hpO8hdy4azEX116In72e7se6L8QxE+ESWCuSce5LSWsdwAIev7tYmcN79z4X+yC8QF
"""

SECOND: Final = """
eNrFVr9z40QUlhQDDjQ3zDH8qDw0QOPDTkdzbqigpvWspWdrx9JKs7uKE6rEZO5moDlvqKg8ji3Zzh3HUNDQuHCqjPkTqK+koKCDJ0ty5DgJSYYZPGNr/fT0
3tvv+97T/nBmfHCsNGV8FzrUpVJ8e7pLnADqjX0J4jetpmlT07Py/18KEIJ6rE6Y6AAXi6I2Tk1ioWsTHjBRb4MvF1uvXsIuNSVYdTTWqYUB9Cf9UwualFG5
fGDr1c8B42AC3UU3QVuMOLF1mizjhxYfPRibNnUsDgzvjCizYG97BL5n2t0hw+r0oQTu6pELbgMrevajTVs2CFlPDNpP2X8OAjgm0sZxBcIGqzfgOy+yKhuU
S/vvsem5LmGW0CNgklMQ+qlpg9n2PcqkeE3pT8cdj7ebjtcZedwCHu1iVtyOfophW8B9jo6DZiW0aAvTppdhDOS8EP9Gwgu4CeIwNMFxSpVfiNhnZgmBKS0D
fvzJZ6VyuTxxCULfodI+uD6psZ60+h8mnX/YU8bhlEOLCkQYLHWc5Na1dGHoZ/oXPbX1u/buMpMWJkwPeAV58gM5NyibCkl4jC+R2yGuZSAidGNYdoiMBI6c
RU1CnYDDbNoCBpzE4tCT5+qSunCupZ8xMGtpmQ2X9loxtTeghZmJXHkiLFhxPWCSOue1QuqWSa0wkqQNzMjp7GggKrNBgF9RxWt19sIkDKFC1RDhsZOOvR/6
BEUoZys9How7RKI4uDiITJsgD6L3zQCryOoKE+tzItpglaRXwvrDXMCEpX7Y9LhLpHGm15UqqKcR4u1jUSeVR2Ti+SkiESoTMYXRskfnemUFW9IGSU/ocf7H
fyT585Ea10VawX80kfs+1BlxYfpVfOdzzj2OfSUEwU0wryQC0y6ZhFsTyYkJDWK2+xPYM7HfMez1daiiejJN48T6EJVhGxs5TOAfxhkHLS/b2O5qY/kYawGC
NEDgW0TCMkCK9c1BzvT3j9V27+jECuD88Z+JcenwV7Je24J6q9ddNVrea42k6j1JqmmXSar+LyRldcwXxxs8VW/PUxZmnafq3XjKgqw4qhkXHGVtfC1Het5r
7ir1Zq+ba7d8Z6pCb4X7uFUpf/qIQScHvr9sbCutUruBxWKmLH7lJKymk7DAYE/ecxYat5qF712ehbWHV8zC1ePZLDSSWajlZmF3OQvF5RnYv80AVMkAfPtf
B2A/cXy45jjF4gkrESQjdXt+AUOpujkwf/1eFXv3ni21B6kaLoTSz5e/Efsu/ZDycZUodm58PU7izncAjako5gXLY3D3t+TKMly/f/PbckMh2qZCDtaVMbuN
Mp5dZm/+pVKvq9FOuVImRxOH4BEtEGBtR7bH6dce06L0kHmod4fx1IuBwWMqApMeA0M8D2HEnq7eeOcf10lQlg==
"""


def unpacked(text: str) -> Any:
    return msgspec.msgpack.decode(zlib.decompress(base64.b64decode(text)))


def read(pieces: list[bytes]) -> State:
    reader = Reader()
    for piece in pieces:
        reader.feed(piece)
    return reader.state()


def applied(entries: list[bytes], state: State) -> State:
    for data in entries:
        apply_entry(state, max(state.index + 1, 2), decode_entry(data))
    return state


# --- the first format


def test_a_log_of_the_first_format_means_what_its_snapshots_say() -> None:
    entries, whole, half, place = unpacked(FIRST)
    state = applied(entries[: place + 1], State(OF_FIRST))
    assert summary(read(half)) == summary(state)
    assert summary(read(whole)) == summary(applied(entries[place + 1 :], state))


def test_a_log_goes_on_from_a_snapshot_of_the_first_format_as_without_it() -> None:
    entries, whole, half, place = unpacked(FIRST)
    assert summary(applied(entries[place + 1 :], read(half))) == summary(read(whole))


def test_runs_of_the_first_format_keep_that_and_their_steps_in_snapshots_of_today() -> None:
    _, whole, _, _ = unpacked(FIRST)
    state = read(whole)
    again = read(list(Frozen(state).pieces(100)))
    assert summary(again) == summary(state)
    assert {run.format for run in again.runs.values()} == {1}
    assert {step.operation for run in again.runs.values() for step in run.steps} >= {"receive", "sleep", "child"}


def test_a_snapshot_that_is_being_written_is_not_changed_by_entries_of_the_first_format() -> None:
    entries, _, half, place = unpacked(FIRST)
    state = read(half)
    then = summary(read(half))
    pieces = Frozen(state).pieces(60)
    made = [next(pieces)]
    applied(entries[place + 1 :], state)
    assert summary(read([*made, *pieces])) == then


def test_what_happens_to_a_run_of_the_first_format_today_is_no_record_of_it_but_a_message() -> None:
    state = State(OF_FIRST)
    old = ["start", "r1", "order", 1, b"in", 2.5]
    done(state, RegisterWorkflow(definition(code=b"")))
    done(state, msgspec.msgpack.decode(msgspec.msgpack.encode(old), type=StartRun))
    run = state.runs["r1"]
    assert (run.format, run.time) == (1, 2.5)
    done(state, CancelRun("r1", "why", 9.0))
    done(state, SendSignal("r1", "s1", "go", b"", at=1.0))
    assert run.records == [Message("s1", "signal", "go", b"", None, 1.0)]
    assert (run.cancel_reason, run.time, run.waiting) == ("why", 2.5, 1)


# --- the second format


def every_kind() -> State:
    """A state with a run that has a record of each kind, twice each, and more."""
    state = running("r1", "r2", "r3")
    done(state, RegisterWorkflow(definition("f2", version=2)))
    for turn in (1.0, 2.0):
        done(state, checkpoint(f"{turn:g}/a", at=turn))
        done(state, checkpoint(f"{turn:g}/b", None, failure=FAILURE, at=turn))
        done(state, SendSignal("r1", f"s{turn:g}", "go", b"v", at=turn))
        done(state, SendSignal("r1", f"u{turn:g}", "change", b"v", update=True, at=turn))
        done(state, FireTimers("r1", turn + 0.25, turn + 0.5, 1, 1, taken=int(turn)))
        done(state, MoveRun("r1", 2 if turn == 1.0 else 1, len(state.runs["r1"].records)))
    done(state, CancelRun("r1", "why", 3.0))
    done(state, SetCheckpoint("r1", Step("g1.0/new", "patched", b"", None, 1, 1)))
    done(state, SendSignal("r2", "s1", "go", b"v", at=4.0))
    done(state, CancelRun("r2", "", 4.5))
    done(state, ContinueRun("r2", 1, 1, 1, b"next", 5.0))
    done(state, end("r3"))
    propose(state, 9, "3.1.a", 1, SendSignal("r2", "s2", "go", b"v", at=6.0))
    return state


def test_a_snapshot_of_the_second_format_is_read_as_what_was_written() -> None:
    assert summary(read(unpacked(SECOND))) == summary(every_kind())


def test_what_is_written_today_has_every_kind_of_record_in_its_order() -> None:
    state = every_kind()
    records = state.runs["r1"].records
    assert {type(record) for record in records} == {Step, Message, TimersFired, CancelRecord, MoveRecord}
    for size in (1, 100, 10_000):
        again = read(list(Frozen(state).pieces(size)))
        assert summary(again) == summary(state)
        assert again.runs["r1"].records == records
        assert {run.format for run in again.runs.values()} == {RECORD_FORMAT}


def test_a_run_says_behind_a_snapshot_which_start_made_it_and_one_of_earlier_bytes_is_no_start_of_its_own() -> None:
    state = read(unpacked(SECOND))
    mine, theirs = (StartRun("r9", "order", 1, b"in", format=RECORD_FORMAT, start_id=name) for name in ("s1", "s2"))
    assert refusal(state, msgspec.structs.replace(mine, run_id="r1")) == "run_id_taken"
    done(state, mine)
    again = read(list(Frozen(state).pieces()))
    assert done(again, mine) == ()
    assert refusal(again, theirs) == "run_id_taken"


@pytest.mark.parametrize("number", [0, 4, 99])
def test_a_snapshot_of_another_format_is_refused(number: int) -> None:
    pieces = unpacked(SECOND)
    (tag, (_, head)), *others = msgspec.msgpack.decode(pieces[0])
    with pytest.raises(SnapshotError, match=f"has format {number}, this version reads formats up to 3"):
        Reader().feed(msgspec.msgpack.encode([[tag, [number, head]], *others]))
