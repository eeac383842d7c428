#!/usr/bin/env bash
# Expected:  a class of `__main__` that cloudpickle ships by value to another process does there what it does here.
# Happens:   what Python decides when a class is made is lost, as cloudpickle makes a bare class and sets the attributes afterwards: an enum's
#            `__init__` never runs for its members, so their own attributes are missing; its aliases are gone; slots do not hold. Nothing
#            is said when it is pickled or loaded, only when the missing part is used.
# Matters:   workflows are functions of a notebook and run in other processes, where its enums and slotted classes must work.
# Held here: raftoral_nb/workflow/codec/class_parts.py (`_enum`, `_slotted`);
#            tests/workflow/test_kinds_of_code.py, test_what_a_notebook_defines_does_the_same_in_another_process [Planet], [Slotted]
# Seen in:   cloudpickle/cloudpickle.py, `_enum_getnewargs`, `_make_skeleton_enum`, `_class_getnewargs`
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q cloudpickle==3.1.3
cat > "$folder/show.py" <<'PYTHON'
import enum
import pickle
import subprocess
import sys

import cloudpickle

class Parcel(enum.Enum):
    SMALL = (2, 490)
    LARGE = (10, 950)
    DEFAULT = SMALL

    def __init__(self, kilos, cents):
        self.kilos, self.cents = kilos, cents

    def price(self, kilos):
        return self.cents * -(-kilos // self.kilos)

class Point:
    __slots__ = ("x", "y")

def look():
    found = {"names": list(Parcel.__members__)}
    try:
        found["price"] = Parcel.SMALL.price(3)
    except AttributeError as error:
        found["price"] = str(error)
    point = Point()
    try:
        point.z = 1
        found["z"] = "is set"
    except AttributeError:
        found["z"] = "is refused"
    return found

there = "import pickle, sys; sys.stdout.buffer.write(pickle.dumps(pickle.load(sys.stdin.buffer)()))"
ran = subprocess.run([sys.executable, "-c", there], input=cloudpickle.dumps(look), stdout=subprocess.PIPE, check=True)
here, there = look(), pickle.loads(ran.stdout)
print("cloudpickle", cloudpickle.__version__ + ": enum members lose their attributes, enums their aliases, classes their slots.")
print("here: ", here)
print("there:", there)
assert here == {"names": ["SMALL", "LARGE", "DEFAULT"], "price": 980, "z": "is refused"}
assert there == {"names": ["SMALL", "LARGE"], "price": "'Parcel' object has no attribute 'cents'", "z": "is set"}
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
