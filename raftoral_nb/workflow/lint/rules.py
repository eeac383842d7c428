"""The rules of the check: a table of what a workflow must not do outside its steps, why, and what to do instead."""

from __future__ import annotations

from typing import Final

import msgspec


class Rule(msgspec.Struct, frozen=True):
    """A rule: the reason why something is not deterministic, and what to write in its place."""

    reason: str
    instead: str


CLOCK: Final = Rule("every node, and every replay, reads another time", "await ctx.now()")
BLOCK: Final = Rule(
    "it blocks the node (from Python 3.13 on it is refused when it runs)",
    'await asyncio.sleep(seconds) or ctx.sleep; only a step may block: await ctx.compute("name", fn)',
)
CHANCE: Final = Rule("every node draws another number", "ctx.rng, or ctx.random()")
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
THREADS: Final = Rule(
    "what runs beside the workflow is in no record, and it is refused when it runs",
    'await ctx.compute("work", fn, ...)',
)
LOOPS: Final = Rule(
    "a workflow has an event loop of its own, and cannot run another one",
    'await what is to be run, or do it in a step: await ctx.compute("name", fn)',
)
SIGNALS: Final = Rule(
    "a signal of the operating system comes to one process, at any time",
    "await ctx.receive(name), and run.signal(name)",
)
FUTURE: Final = Rule(
    "its place in a set is that of its address, which differs from node to node",
    "asyncio.get_running_loop().create_future()",
)
TASK: Final = Rule("the workflow's loop does not know it, and no step can be taken in it", "asyncio.create_task(...)")
TASK_FACTORY: Final = Rule(
    "the tasks of a workflow are made by its loop: any factory but asyncio.eager_task_factory is refused when it is set",
    "contextvars, or a function of yours that calls asyncio.create_task",
)
IMPORTED_BEFORE: Final = Rule(
    "this name was imported before raftoral_nb made the function the same on every node, and is still the old one",
    "the function through its module",
)
FORGOTTEN: Final = Rule(
    "it is called and not awaited, so nothing of it is done", "`await` before it, or asyncio.create_task(...) around it"
)
SHARED: Final = Rule(
    "all runs share it: it belongs to the loop of whichever run waits for it first, and each node has a copy of its own",
    "make it within the workflow, for each run",
)
LEFT_GENERATOR: Final = Rule(
    "a generator that is left early cleans up only when the run ends",
    "async with contextlib.aclosing(...) as items, and the loop in it",
)
RETRY_CHANCE: Final = Rule(
    "the wait is random, and differs from node to node", "a fixed or exponential wait, or step(fn, retry=Retry(...))"
)
RETRY_CLOCK: Final = Rule(
    "it reads the node's clock, which differs from node to node",
    "stop_after_attempt, asyncio.timeout, or step(fn, retry=Retry(...))",
)
GONE: Final = Rule(
    "it is gone: a cancelled workflow, branch or block gets asyncio's own exception", "except asyncio.CancelledError"
)
MISSES_CANCELLATION: Final = Rule(
    "asyncio.CancelledError is no Exception: a cancellation passes by here", "except asyncio.CancelledError, or finally"
)
CANCEL_TEXT: Final = Rule(
    "the text of a cancellation may have an address in it (anyio's has), which differs from node to node",
    "only that it came, or what the run itself has noted",
)
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
        ),
        CLOCK,
    ),
    "time.sleep": BLOCK,
    "asyncio.Future": FUTURE,
    "asyncio.Task": TASK,
    "uuid.uuid1": IDENTITY,
    "uuid.uuid4": IDENTITY,
    "os.urandom": SECRET,
    **dict.fromkeys(
        (
            "asyncio.run",
            "asyncio.Runner",
            "asyncio.new_event_loop",
            "asyncio._UnixSelectorEventLoop",
            "anyio.run",
            "anyio.from_thread.run",
            "anyio.from_thread.run_sync",
            "anyio.from_thread.start_blocking_portal",
            "nest_asyncio.apply",
            "trio.run",
            "uvloop.run",
            "uvloop.new_event_loop",
            "asyncio.loop.run_forever",
            "asyncio.loop.run_until_complete",
            "asyncio.loop.stop",
            "asyncio.loop.close",
        ),
        LOOPS,
    ),
    **dict.fromkeys(
        (
            "signal.signal",
            "signal.alarm",
            "signal.pause",
            "anyio.open_signal_receiver",
            "asyncio.loop.add_signal_handler",
        ),
        SIGNALS,
    ),
    **dict.fromkeys(
        (
            "asyncio.open_connection",
            "asyncio.start_server",
            "asyncio.open_unix_connection",
            "asyncio.start_unix_server",
            "anyio.connect_tcp",
            "anyio.connect_unix",
            "anyio.create_tcp_listener",
            "anyio.create_unix_listener",
            "anyio.create_udp_socket",
            "anyio.create_connected_udp_socket",
            "anyio.getaddrinfo",
            "anyio.getnameinfo",
            "asyncio.loop.create_connection",
            "asyncio.loop.create_server",
            "asyncio.loop.create_datagram_endpoint",
            "asyncio.loop.create_unix_connection",
            "asyncio.loop.create_unix_server",
            "asyncio.loop.getaddrinfo",
            "asyncio.loop.getnameinfo",
            "asyncio.loop.add_reader",
            "asyncio.loop.add_writer",
        ),
        NETWORK,
    ),
    **dict.fromkeys(("tenacity.wait_random", "tenacity.wait_random_exponential"), RETRY_CHANCE),
    **dict.fromkeys(("tenacity.wait_exponential_jitter", "tenacity.wait_full_jitter"), RETRY_CHANCE),
    **dict.fromkeys(("tenacity.stop_after_delay", "tenacity.stop_before_delay"), RETRY_CLOCK),
    **dict.fromkeys(
        (
            "asyncio.to_thread",
            "asyncio.run_coroutine_threadsafe",
            "asyncio.loop.run_in_executor",
            "asyncio.loop.set_default_executor",
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
        (
            "asyncio.create_subprocess_exec",
            "asyncio.create_subprocess_shell",
            "asyncio.loop.subprocess_exec",
            "asyncio.loop.subprocess_shell",
            "os.fork",
            "os.kill",
        ),
        PROCESS,
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
    "_asyncio": "asyncio",
    "_io": "io",
    "_random": "random",
    "genericpath": "os.path",
    "nt": "os",
    "ntpath": "os.path",
    "posix": "os",
    "posixpath": "os.path",
    "_socket": "socket",
    **dict.fromkeys(
        (
            *("asyncio.events", "asyncio.exceptions", "asyncio.futures", "asyncio.locks", "asyncio.queues"),
            *("asyncio.runners", "asyncio.selector_events", "asyncio.streams", "asyncio.subprocess", "asyncio.tasks"),
            *("asyncio.taskgroups", "asyncio.threads", "asyncio.timeouts", "asyncio.unix_events"),
        ),
        "asyncio",
    ),
    **dict.fromkeys(
        (
            *("anyio._core._eventloop", "anyio._core._fileio", "anyio._core._signals", "anyio._core._sockets"),
            *("anyio._core._subprocesses", "anyio._core._synchronization", "anyio._core._tasks"),
        ),
        "anyio",
    ),
    "pathlib._local": "pathlib",
    **dict.fromkeys(("tenacity.asyncio", "tenacity.stop", "tenacity.wait"), "tenacity"),
    "stamina._core": "stamina",
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

BRANCH_METHODS: Final = frozenset(
    {
        *("branch", "first", "gather", "map", "on_update", "race", "start", "start_soon"),
        *("add_done_callback", "call_at", "call_later", "call_soon"),
    }
)
"""Operations that run functions outside of steps."""

TASK_MAKERS: Final = frozenset({"create_future", "create_task", "ensure_future", "gather", "shield"})
"""Functions whose results have an ordinal as hash: sets of them have the same order on every node."""

LOOP_GETTERS: Final = frozenset({"asyncio.get_event_loop", "asyncio.get_running_loop"})

MENDED: Final = frozenset({"asyncio.all_tasks", "asyncio.as_completed", "asyncio.wait_for"})
"""Functions that are made the same on every node when a cluster starts (`workflow/loop/asyncio_patches`)."""

GONE_ERRORS: Final = frozenset({"CancelledRunError", "Interrupted"})

_FOR_ONE_LOOP: Final = frozenset(
    {
        *("Barrier", "BoundedSemaphore", "CapacityLimiter", "Condition", "Event", "Lock", "Semaphore"),
        *("CapacityLimiterAdapter", "EventAdapter", "LockAdapter", "SemaphoreAdapter"),
        *("LifoQueue", "PriorityQueue", "Queue"),
        *("MemoryObjectReceiveStream", "MemoryObjectSendStream"),
    }
)


def is_for_one_loop(thing: object) -> bool:
    """Return whether something is a lock, an event, a queue or the like of asyncio or anyio, which belongs to one loop."""
    return any(
        kind.__name__ in _FOR_ONE_LOOP and kind.__module__.partition(".")[0] in ("asyncio", "anyio")
        for kind in type(thing).__mro__
    )


def rule_for(name: str, arguments: int) -> Rule | None:
    """Return the rule that calling `name` with so many arguments breaks; None if it breaks none."""
    if name in EXACT:
        return EXACT[name]
    if name in SEEDED and arguments:
        return None
    if name.startswith("pathlib.") and name.rpartition(".")[2] in PATH_METHODS:
        return FILES
    return next((rule for prefix, rule in PREFIXES if name.startswith(prefix)), None)
