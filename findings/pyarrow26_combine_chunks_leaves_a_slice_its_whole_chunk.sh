#!/usr/bin/env bash
# Expected:  `Table.combine_chunks()` of a slice makes a table of its own, without the memory of what it was cut out of.
# Happens:   a column that has one chunk already is given back as it is: the slice goes on holding, and pickling, the chunk that it was cut
#            out of. With two chunks in the slice it does copy, so the same call shrinks one slice and not its neighbour. `take` always copies.
# Matters:   what a step returns is pickled into the log: five rows must not bring a million along, and a hint must name what helps.
# Held here: raftoral_nb/workflow/codec/views.py;
#            tests/workflow/codec/test_views.py, test_what_is_advised_makes_a_real_slice_small
# Seen in:   pyarrow/table.pxi, `Table.combine_chunks`; arrow/table.cc, `Table::CombineChunks`
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyarrow==26.0.1
"$folder/venv/bin/python" - <<'PYTHON'
import pickle

import pyarrow

def size(table):
    return len(pickle.dumps(table, protocol=5))

half = pyarrow.table({"number": list(range(100_000)), "name": [f"n{number}" for number in range(100_000)]})
whole = pyarrow.concat_tables([half, half])  # two chunks a column

inside = whole.slice(10, 5)  # five rows of the first chunk
across = whole.slice(99_998, 5)  # five rows of both
found = {
    "the table": size(whole),
    "5 rows of one chunk": size(inside),
    "combined": size(inside.combine_chunks()),
    "taken": size(inside.take(list(range(5)))),
    "5 rows of two chunks, combined": size(across.combine_chunks()),
}
print("pyarrow", pyarrow.__version__ + ": combine_chunks leaves a slice of a single chunk with the whole chunk, pickled too.")
print("own data:", inside.nbytes, "bytes; pickled:", found)
assert inside.nbytes < 200
assert found["combined"] == found["5 rows of one chunk"] > 1_000_000
assert found["taken"] < 2_000 and found["5 rows of two chunks, combined"] < 2_000
PYTHON
