#!/usr/bin/env bash
# Expected:  the three kinds of type parameters of `__main__` travel alike to another process: by value, as functions and classes there do.
# Happens:   only a `TypeVar` does. A `ParamSpec` or `TypeVarTuple` is written as a name of `__main__`, which the other process does not have,
#            so a typed decorator (`Callable[P, T]`) makes any function that refers to it unloadable. Pickling says nothing.
# Matters:   a notebook's decorators are shipped with its workflows; that they are typed well must not hinder it.
# Held here: raftoral_nb/workflow/codec/reducers.py (`_parameters`);
#            tests/workflow/codec/test_hints.py, test_code_with_parameters_of_types_travels_to_where_nobody_knows_them
# Seen in:   cloudpickle/cloudpickle.py, `Pickler._dispatch_table` (`typing.TypeVar` and `_typevar_reduce` alone)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q cloudpickle==3.1.3
cat > "$folder/show.py" <<'PYTHON'
import subprocess
import sys
from typing import Callable, ParamSpec, TypeVar, TypeVarTuple

import cloudpickle

T = TypeVar("T")
P = ParamSpec("P")
Ts = TypeVarTuple("Ts")

def same_value(value: T) -> T:
    return value

def same_function(function: Callable[P, T]) -> Callable[P, T]:
    return function

def same_tuple(*values: *Ts) -> tuple[*Ts]:
    return values

THERE = """
import pickle, sys
try:
    print("works:", pickle.load(sys.stdin.buffer)(1))
except AttributeError as error:
    print("fails:", error)
"""

def there(function):
    ran = subprocess.run([sys.executable, "-c", THERE], input=cloudpickle.dumps(function), stdout=subprocess.PIPE, check=True)
    return ran.stdout.decode().strip()

found = {function.__name__: there(function) for function in (same_value, same_function, same_tuple)}
print("cloudpickle", cloudpickle.__version__ + ": a TypeVar of __main__ is shipped, a ParamSpec and a TypeVarTuple are not.")
for name, what in found.items():
    print(f"{name} in another process {what}")
assert found["same_value"] == "works: 1"
for name, parameter in {"same_function": "'P'", "same_tuple": "'Ts'"}.items():
    assert found[name].startswith("fails:") and "'__main__'" in found[name] and parameter in found[name]
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
