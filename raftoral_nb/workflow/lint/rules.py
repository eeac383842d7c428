"""The rules of the check: a table of what a workflow must not do outside its steps, why, and what to do instead."""

from __future__ import annotations

from typing import Final

import msgspec


class Rule(msgspec.Struct, frozen=True):
    """A rule: the reason why something is not deterministic, and what to write in its place."""

    reason: str
    instead: str


CLOCK: Final = Rule("every node, and every replay, reads another time", "await ctx.now()")
SLEEP: Final = Rule("it is not recorded, and starts anew on the next leader", "await ctx.sleep(seconds)")
BLOCK: Final = Rule("it keeps the node's thread, and starts anew on the next leader", "await ctx.sleep(seconds)")
CHANCE: Final = Rule("every node draws another number", "ctx.random()")
DRAW: Final = Rule(
    "every node draws other numbers", 'await ctx.compute("draw", fn), or a generator with a seed of its own'
)
SECRET: Final = Rule("every node draws another value", 'await ctx.compute("token", fn)')
IDENTITY: Final = Rule("every node makes another identifier", "ctx.uuid4()")
NETWORK: Final = Rule(
    "every node asks, at another time, and may be answered differently", 'await ctx.compute("fetch", fn, ...)'
)
FILES: Final = Rule(
    "every node does it, at another time, and may find something else", 'await ctx.compute("file", fn, ...)'
)
PROCESS: Final = Rule("every node starts one, and each may end differently", 'await ctx.compute("command", fn, ...)')
SURROUNDINGS: Final = Rule(
    "it differs from process to process, and after a restart",
    'pass it in as input, or await ctx.compute("setting", fn)',
)
TASKS: Final = Rule(
    "what it starts runs in an order that no record keeps", "await ctx.gather(...), with a branch for each"
)
TIMEOUT: Final = Rule("real time passes differently on every node and in a replay", "the timeout of the step")
THREADS: Final = Rule("what runs beside the workflow is in no record", 'await ctx.compute("work", fn, ...)')
PERSON: Final = Rule("every node would ask, and nobody can answer", "ask before the run starts, or wait for a signal")
ADDRESS: Final = Rule("it differs from process to process", "a key made of the values themselves")
SET_ORDER: Final = Rule("the order of a set differs from process to process", "iterate over sorted(...)")
GLOBAL: Final = Rule(
    "each node has a copy of its own, which replays and other runs change as well",
    "await ctx.var(...), or a local variable",
)
NODE: Final = Rule("it differs from node to node", "what the workflow does must not depend on it")

EXACT: Final[dict[str, Rule]] = {
    **dict.fromkeys(
        (
            "time.time",
            "time.time_ns",
            "time.monotonic",
            "time.monotonic_ns",
            "time.perf_counter",
            "time.perf_counter_ns",
            "time.process_time",
            "time.localtime",
            "time.gmtime",
            "time.ctime",
            "datetime.datetime.now",
            "datetime.datetime.utcnow",
            "datetime.datetime.today",
            "datetime.date.today",
            "pandas.Timestamp.now",
            "pandas.Timestamp.today",
            "anyio.current_time",
        ),
        CLOCK,
    ),
    "time.sleep": BLOCK,
    "asyncio.sleep": SLEEP,
    "anyio.sleep": SLEEP,
    "anyio.sleep_until": SLEEP,
    "uuid.uuid1": IDENTITY,
    "uuid.uuid4": IDENTITY,
    "os.urandom": SECRET,
    **dict.fromkeys(
        (
            "asyncio.gather",
            "asyncio.create_task",
            "asyncio.ensure_future",
            "asyncio.wait",
            "asyncio.as_completed",
            "asyncio.TaskGroup",
            "asyncio.run_coroutine_threadsafe",
            "anyio.create_task_group",
        ),
        TASKS,
    ),
    **dict.fromkeys(
        ("asyncio.wait_for", "asyncio.timeout", "asyncio.timeout_at", "anyio.move_on_after", "anyio.fail_after"),
        TIMEOUT,
    ),
    **dict.fromkeys(
        (
            "asyncio.to_thread",
            "anyio.to_thread.run_sync",
            "anyio.to_process.run_sync",
            "threading.Thread",
            "threading.Timer",
            "concurrent.futures.ThreadPoolExecutor",
            "concurrent.futures.ProcessPoolExecutor",
            "concurrent.futures.thread.ThreadPoolExecutor",
            "concurrent.futures.process.ProcessPoolExecutor",
            "multiprocessing.Process",
            "multiprocessing.Pool",
            "multiprocessing.context.Process",
        ),
        THREADS,
    ),
    **dict.fromkeys(
        (
            "builtins.open",
            "io.open",
            "os.open",
            "os.listdir",
            "os.scandir",
            "os.walk",
            "os.stat",
            "os.remove",
            "os.unlink",
            "os.rename",
            "os.replace",
            "os.mkdir",
            "os.makedirs",
            "os.rmdir",
            "os.path.exists",
            "os.path.isfile",
            "os.path.isdir",
            "os.path.getsize",
            "os.path.getmtime",
            "glob.glob",
            "glob.iglob",
            "numpy.load",
            "numpy.loadtxt",
            "numpy.genfromtxt",
            "numpy.save",
            "numpy.savetxt",
            "anyio.open_file",
            "sqlite3.connect",
        ),
        FILES,
    ),
    **dict.fromkeys(("os.system", "os.popen", "anyio.run_process", "anyio.open_process"), PROCESS),
    **dict.fromkeys(
        ("asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell", "os.fork", "os.kill"), PROCESS
    ),
    **dict.fromkeys(
        (
            "os.getenv",
            "os.getpid",
            "os.getppid",
            "os.getcwd",
            "os.cpu_count",
            "os.getlogin",
            "os.uname",
            "getpass.getuser",
            "socket.gethostname",
            "threading.get_ident",
        ),
        SURROUNDINGS,
    ),
    "builtins.input": PERSON,
    "builtins.breakpoint": PERSON,
    "builtins.id": ADDRESS,
    "builtins.hash": ADDRESS,
}
"""The rules for calls by the full name of what is called."""

PREFIXES: Final[tuple[tuple[str, Rule], ...]] = (
    ("random.", CHANCE),
    ("numpy.random.", DRAW),
    ("secrets.", SECRET),
    ("platform.", SURROUNDINGS),
    ("subprocess.", PROCESS),
    ("shutil.", FILES),
    ("tempfile.", FILES),
    ("pandas.read_", FILES),
    ("polars.read_", FILES),
    *(
        (f"{library}.", NETWORK)
        for library in (
            "aiohttp",
            "boto3",
            "ftplib",
            "http.client",
            "httpx",
            "imaplib",
            "psycopg",
            "psycopg2",
            "redis",
            "requests",
            "smtplib",
            "socket",
            "sqlalchemy.create_engine",
            "urllib.request",
            "urllib3",
        )
    ),
)
"""The rules for calls of everything whose full name begins so; `EXACT` comes first."""

SEEDED: Final = frozenset(
    {
        "random.Random",
        "numpy.random.default_rng",
        "numpy.random.RandomState",
        "numpy.random.SeedSequence",
        "numpy.random.PCG64",
        "numpy.random.Generator",
    }
)
"""Deterministic if they are given a seed."""

ATTRIBUTES: Final[dict[str, Rule]] = {"os.environ": SURROUNDINGS}
"""The attributes that do harm without being called."""

PATH_METHODS: Final = frozenset(
    {
        "cwd",
        "exists",
        "glob",
        "home",
        "is_dir",
        "is_file",
        "iterdir",
        "mkdir",
        "open",
        "read_bytes",
        "read_text",
        "rename",
        "replace",
        "resolve",
        "rglob",
        "rmdir",
        "stat",
        "touch",
        "unlink",
        "write_bytes",
        "write_text",
    }
)
"""The methods of `pathlib.Path` that read from the disk."""

MODULE_NAMES: Final = {
    "_io": "io",
    "_random": "random",
    "genericpath": "os.path",
    "nt": "os",
    "ntpath": "os.path",
    "posix": "os",
    "posixpath": "os.path",
    "_socket": "socket",
    "asyncio.tasks": "asyncio",
    "asyncio.threads": "asyncio",
    "asyncio.taskgroups": "asyncio",
    "asyncio.timeouts": "asyncio",
    "anyio._core._eventloop": "anyio",
    "anyio._core._tasks": "anyio",
    "anyio.to_thread": "anyio.to_thread",
    "pathlib._local": "pathlib",
}
"""The modules that things are defined in, with the names under which people know them."""

CHANGES: Final = frozenset(
    {
        "add",
        "append",
        "appendleft",
        "clear",
        "discard",
        "extend",
        "insert",
        "pop",
        "popitem",
        "popleft",
        "remove",
        "reverse",
        "setdefault",
        "sort",
        "update",
    }
)
"""Methods that change a container."""

ORDERLESS: Final = frozenset({"all", "any", "frozenset", "len", "max", "min", "set", "sorted", "sum"})
"""Built-in functions whose answer does not depend on the order of what they are given."""

ORDERED: Final = frozenset({"enumerate", "filter", "iter", "list", "map", "next", "reversed", "tuple", "zip"})
"""Built-in functions whose answer does."""

STEP_METHODS: Final[dict[str, int]] = {"compute": 1, "with_computation": 2, "update": 0}
"""Operations that run a function inside a step, and which of their arguments it is."""

BRANCH_METHODS: Final = frozenset({"branch", "first", "gather", "map", "race", "start", "start_soon"})
"""Operations that run functions outside of steps."""


def rule_for(name: str, arguments: int) -> Rule | None:
    """Return the rule that calling `name` with so many arguments breaks; None if it breaks none."""
    if name in EXACT:
        return EXACT[name]
    if name in SEEDED and arguments:
        return None
    if name.startswith("pathlib.") and name.rpartition(".")[2] in PATH_METHODS:
        return FILES
    return next((rule for prefix, rule in PREFIXES if name.startswith(prefix)), None)
