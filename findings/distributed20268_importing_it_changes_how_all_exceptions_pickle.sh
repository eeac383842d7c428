#!/usr/bin/env bash
# Expected:  importing a library changes nothing in how the exceptions of the process are pickled by everybody else.
# Happens:   `import distributed` has tblib register a reducer in `copyreg` for every class of exceptions that there is. From then on plain
#            `pickle` (and what is built on it, cloudpickle among them) sends traceback, cause and context along, so an exception whose cause
#            does not pickle is refused where it was not; and what is not in
#            an exception's `args` and attributes, as `StopIteration.value`, is lost.
# Matters:   the failure of a step is recorded on one node and raised on all. What is recorded must not depend on who imported what.
# Held here: raftoral_nb/workflow/codec/exceptions.py (`registered`);
#            tests/workflow/codec/test_exceptions_kept.py, test_exceptions_pickle_the_same_whether_or_not_distributed_was_imported
# Seen in:   distributed/utils.py, `tblib.pickling_support.install()`; tblib/pickling_support.py, `install`, `pickle_exception`
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q distributed==2026.8.0 tblib==3.2.2
cat > "$folder/show.py" <<'PYTHON'
import copyreg
import pickle
import sys
import threading


def look():
    stop = StopIteration(3)
    caused = ValueError("refused")
    caused.__cause__ = RuntimeError(threading.Lock())  # a cause that does not pickle
    found = {"registered": sum(isinstance(kind, type) and issubclass(kind, BaseException) for kind in copyreg.dispatch_table) > 50}
    found["StopIteration(3).value"] = pickle.loads(pickle.dumps(stop)).value
    try:
        found["with a cause"] = repr(pickle.loads(pickle.dumps(caused)))
    except TypeError as error:
        found["with a cause"] = f"TypeError: {error}"
    return found


before = look()
import distributed

after = look()
print("distributed", distributed.__version__)
print("before the import:", before)
print("after it:         ", after)
assert before == {
    "registered": False,
    "StopIteration(3).value": 3,
    "with a cause": "ValueError('refused')",
}, before
assert after == {
    "registered": True,
    "StopIteration(3).value": None,
    "with a cause": "TypeError: cannot pickle '_thread.lock' object",
}, after
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
