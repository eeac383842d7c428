// Runs a Python script in Pyodide: node run.mjs PYODIDE PACKAGES CHECKOUT SCRIPT [ARGUMENT ...]. Ends with the script's exit code.
import { writeSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [pyodide, packages, checkout, ...argv] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(`${pyodide}/pyodide.mjs`).href);
const python = await loadPyodide({ indexURL: pyodide });
const write = (bytes) => writeSync(1, bytes);
python.setStdout({ write });
python.setStderr({ write });
for (const [place, root] of Object.entries({ "/packages": packages, "/checkout": checkout })) {
  python.FS.mkdirTree(place);
  python.FS.mount(python.FS.filesystems.NODEFS, { root }, place);
}
python.globals.set("argv", python.toPy(argv));
try {
  process.exitCode = python.runPython(`
import runpy, sys
sys.dont_write_bytecode = True
sys.path[:0] = ["/packages", "/checkout"]
sys.argv = argv
try:
    runpy.run_path(argv[0], run_name="__main__")
    code = 0
except SystemExit as end:
    code = int(end.code or 0)
code
`);
} catch (error) {
  console.log(error.message); // of an exception in Python: its traceback
  process.exitCode = 1;
}
