"""The declaration of a step: `step`, its options, and when it is retried. Running one is the language's (`steps`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, ParamSpec, Protocol, TypeVar, cast, overload

import msgspec
from msgspec import UNSET, UnsetType

from ...core.labels import check_label
from ...core.step_ids import check_key
from ...errors import BadArgumentError, WorkflowDefinitionError
from ...threads.seconds import Seconds, is_number, keep_numbers
from ..codec import sources
from ..execution.running_step import CONTEXT, STEP

if TYPE_CHECKING:
    from types import FunctionType


P = ParamSpec("P")


T = TypeVar("T")


T_co = TypeVar("T_co", covariant=True)


MAX_ATTEMPTS: Final = 1_000_000
"""The most attempts that a retry policy may allow."""


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """A policy that says when and how often a step's function is called again after it raised.

    The wait before attempt `n + 1` is `first_wait * factor ** (n - 1)` seconds, at most `max_wait`, of which a part of up to
    `jitter` is left out by chance, so that many steps which failed together do not come back together.

    A function that knows better when to try again raises `RetryAfter`. Attempts are not recorded: a new leader counts them from 1 again. Raises
    `BadArgumentError` if a value makes no sense.
    """

    attempts: int = 3
    """Calls in all, the first included."""
    first_wait: float = 0.1
    """Seconds between the first and the second attempt; may be given as a `timedelta`, like `max_wait`."""
    factor: float = 2.0
    """The factor by which each wait is longer than the one before."""
    max_wait: float = 30.0
    """The longest wait, in seconds."""
    jitter: float = 0.5
    """From 0 (waits are exact) to 1 (anything from no wait to the whole)."""
    on: tuple[type[Exception], ...] = (Exception,)
    """The exceptions after which it is tried again."""
    final: tuple[type[Exception], ...] = ()
    """Exceptions among them after which it is not."""

    if TYPE_CHECKING:  # what may be given is wider than what is kept

        def __init__(
            self,
            *,
            attempts: int = 3,
            first_wait: Seconds = 0.1,
            factor: float = 2.0,
            max_wait: Seconds = 30.0,
            jitter: float = 0.5,
            on: tuple[type[Exception], ...] = (Exception,),
            final: tuple[type[Exception], ...] = (),
        ) -> None: ...

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        keep_numbers(self, "first_wait", "max_wait")
        if type(self.attempts) is not int or not 1 <= self.attempts <= MAX_ATTEMPTS:
            raise BadArgumentError(
                f"Retry(attempts=...) is a whole number from 1 to {MAX_ATTEMPTS}, not {self.attempts!r}"
            )
        for name, least, most in (
            ("first_wait", 0.0, math.inf),
            ("max_wait", 0.0, math.inf),
            ("factor", 1.0, math.inf),
            ("jitter", 0.0, 1.0),
        ):
            _check_number(f"Retry({name}=...)", getattr(self, name), least, most)
        for name in ("on", "final"):
            kinds: Any = getattr(self, name)
            if not isinstance(kinds, tuple) or not all(isinstance(k, type) and issubclass(k, Exception) for k in kinds):
                raise BadArgumentError(f"Retry({name}=...) is a tuple of exception classes, not {kinds!r}")

    def again(self, error: BaseException, attempt: int) -> bool:
        """Return whether to try again after attempt number `attempt` raised `error`."""
        return attempt < self.attempts and isinstance(error, self.on) and not isinstance(error, self.final)

    def wait(self, attempt: int, chance: float) -> float:
        """Return seconds to wait after attempt number `attempt`; `chance` is from 0 to 1."""
        try:
            longest = min(self.max_wait, self.first_wait * self.factor ** (attempt - 1))
        except OverflowError:
            longest = self.max_wait
        return longest * (1.0 - self.jitter * chance)


class StepOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a step. See `step`."""

    retry: Retry | None = None
    timeout: float | None = None
    total_timeout: float | None = None
    at_most_once: bool = False
    cache: Literal["inputs"] | None = None
    ttl: float | None = None
    on: str | None = None
    where: str | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            retry: Retry | None = None,
            timeout: Seconds | None = None,
            total_timeout: Seconds | None = None,
            at_most_once: bool = False,
            cache: Literal["inputs"] | None = None,
            ttl: Seconds | None = None,
            on: str | None = None,
            where: str | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        keep_numbers(self, "timeout", "total_timeout", "ttl")
        retry: object = self.retry
        if retry is not None and not isinstance(retry, Retry):
            raise BadArgumentError(f"retry is a Retry, such as Retry(attempts=5), not {retry!r}")
        if self.timeout is not None:
            _check_seconds("timeout", self.timeout)
        if self.total_timeout is not None:
            _check_seconds("total_timeout", self.total_timeout)
        if type(self.at_most_once) is not bool:
            raise BadArgumentError(f"at_most_once is True or False, not {self.at_most_once!r}")
        if self.at_most_once and self.retry is not None and self.retry.attempts > 1:
            raise BadArgumentError("a step that runs at_most_once cannot be retried: take one of the two")
        if self.on is not None:
            _check_executor(self.on)
        if self.where is not None:
            check_label(self.where, "where=")
        self._check_cache()

    def _check_cache(self) -> None:
        given: object = self.cache
        if given not in (None, "inputs"):
            raise BadArgumentError(f'cache is "inputs", or None for no cache, not {given!r}')
        if self.ttl is not None:
            _check_seconds("ttl", self.ttl)
            if given is None:
                raise BadArgumentError('ttl says how long a cached result is good for: it takes cache="inputs"')
        if given is not None and self.at_most_once:
            raise BadArgumentError(
                "a step that runs at_most_once has an effect, which no cached result has: take one of the two"
            )


PLAIN: Final = StepOptions()
"""No retries, no timeout, at least once."""


class StepFunction(Generic[P, T_co]):
    """A function that is a step: made by `step`. Awaiting a call of it in a workflow records what it returns or raises.

    Outside of a workflow, and inside of a step, a call is one of the function and nothing else. `fn` is the function itself,
    `key` names its steps.
    """

    def __init__(self, fn: Callable[P, Any], options: StepOptions, key: str) -> None:
        self.fn = fn
        self.options = options
        self.key = key
        update_wrapper(self, fn, updated=())

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T_co]:
        """Run the step in a workflow as `ctx.compute(key, fn, ...)`, to be awaited.

        Elsewhere, and within a step, just call the function.

        There a synchronous function returns its value, and an asynchronous one is awaited; no option counts and nothing
        is recorded. (A type checker is told the form for workflows: for the value of a synchronous function call
        `.fn`.) Raises `WrongTaskError` when it is awaited in a task that is not the workflow's own.
        """
        ctx = CONTEXT.get()
        if ctx is None or STEP.get() is not None:
            plain: Coroutine[Any, Any, T_co] = self.fn(*args, **kwargs)
            return plain
        recorded: Coroutine[Any, Any, T_co] = ctx.compute(self.key, self, *args, **kwargs)
        return recorded

    def with_options(
        self,
        *,
        key: str | UnsetType = UNSET,
        retry: Retry | UnsetType | None = UNSET,
        timeout: Seconds | UnsetType | None = UNSET,
        total_timeout: Seconds | UnsetType | None = UNSET,
        at_most_once: bool | UnsetType = UNSET,
        cache: Literal["inputs"] | UnsetType | None = UNSET,
        ttl: Seconds | UnsetType | None = UNSET,
        on: str | UnsetType | None = UNSET,
        where: str | UnsetType | None = UNSET,
    ) -> StepFunction[P, T_co]:
        """Return the same step with some options changed: `await charge.with_options(timeout=5)(order)`."""
        given = {
            "retry": retry,
            "timeout": timeout,
            "total_timeout": total_timeout,
            "at_most_once": at_most_once,
            "cache": cache,
            "ttl": ttl,
            "on": on,
            "where": where,
        }
        changes = {name: value for name, value in given.items() if value is not UNSET}
        name = self.key if isinstance(key, UnsetType) else _key(self.fn, key)
        try:
            options = StepOptions(**{**msgspec.structs.asdict(self.options), **changes})
        except BadArgumentError as error:
            raise BadArgumentError(f"step {name!r}: {error}") from None
        return StepFunction(self.fn, options, name)

    def __repr__(self) -> str:
        return f"StepFunction({self.key!r})"

    def __reduce__(self) -> Any:
        # One that a module defines is found there by everybody, like the module's functions; another travels by value.
        if sources.importable_name(self) is not None:
            return self.__qualname__
        return (StepFunction, (self.fn, self.options, self.key))

    __name__: str
    __qualname__: str
    __wrapped__: FunctionType


class _Decorator(Protocol):
    """The decorator that `step(...)` with nothing but options returns."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, T]], /) -> StepFunction[P, T]: ...
    @overload
    def __call__(self, fn: Callable[P, T], /) -> StepFunction[P, T]: ...


@overload
def step(
    fn: Callable[P, Coroutine[Any, Any, T]],
    /,
    *,
    key: str | None = None,
    retry: Retry | None = None,
    timeout: Seconds | None = None,
    total_timeout: Seconds | None = None,
    at_most_once: bool = False,
    cache: Literal["inputs"] | None = None,
    ttl: Seconds | None = None,
    on: str | None = None,
    where: str | None = None,
) -> StepFunction[P, T]: ...


@overload
def step(
    fn: Callable[P, T],
    /,
    *,
    key: str | None = None,
    retry: Retry | None = None,
    timeout: Seconds | None = None,
    total_timeout: Seconds | None = None,
    at_most_once: bool = False,
    cache: Literal["inputs"] | None = None,
    ttl: Seconds | None = None,
    on: str | None = None,
    where: str | None = None,
) -> StepFunction[P, T]: ...


@overload
def step(
    *,
    key: str | None = None,
    retry: Retry | None = None,
    timeout: Seconds | None = None,
    total_timeout: Seconds | None = None,
    at_most_once: bool = False,
    cache: Literal["inputs"] | None = None,
    ttl: Seconds | None = None,
    on: str | None = None,
    where: str | None = None,
) -> _Decorator: ...


def step(
    fn: Any = None,
    /,
    *,
    key: str | None = None,
    retry: Retry | None = None,
    timeout: Seconds | None = None,
    total_timeout: Seconds | None = None,
    at_most_once: bool = False,
    cache: Literal["inputs"] | None = None,
    ttl: Seconds | None = None,
    on: str | None = None,
    where: str | None = None,
) -> Any:
    """Make a function a step, with options; as a decorator (`@step`, `@step(timeout=5)`) or in place (`step(fn, timeout=5)`).

        @step(retry=Retry(attempts=5, final=(CardDeclined,)), timeout=10)
        async def charge(order): ...

        receipt = await charge(order)                         # in a workflow: a step with the key "charge"
        receipt = await ctx.compute("charge twice", charge, order)       # the same under another key
        await ctx.compute("fit", step(fit, timeout=60), data)            # options for a function of others

    Args:
        fn: the function, synchronous or not.
        key: what its steps are called when it is called directly; else the function's name.
        retry: when it is called again after it raised; else never, unless it raises `RetryAfter`.
        timeout: seconds (or a `timedelta`) that one attempt may take, then it ends with `StepTimeoutError`. An async function is cancelled,
            once, and has `MAX_CANCEL_SECONDS` to clean up; one that has not ended then is abandoned, as a synchronous one is at once: it
            continues, its result is dropped, and `Cluster.stop` names it if it never ends.
        total_timeout: seconds (or a `timedelta`) for all attempts and the waits between them, after which it ends with `StepTimeoutError`, and is not tried
            again. Counted from the run's time at which the workflow asked for the step, which is the same for every leader: times when no node led, the run
            was paused or the cluster stopped count. As exact as the clocks of the nodes agree. May end sooner if no further attempt could begin in time.
        at_most_once: an intent is recorded before the function runs. If its node dies or is deposed before the result is
            recorded, the function is not called again; `OutcomeUnknown` is raised, on every node, for the workflow to decide.
        cache: "inputs" to reuse a result that any run's step computed with the same code and equal inputs, and to keep this one. The code is the function
            with all that it captures and reaches in the notebook, the versions of Python and of the packages it uses; changes in an importable module are not
            seen. What is found is recorded as the step's result, and is the same on every node. Failures are never kept. Two steps that ask at the same time
            may both compute. Inputs that have no digest (those that do not pickle, or are very large) are computed each time, which the run's log says once.
            For functions whose result follows from their inputs. What the cache holds: `Cluster.cached_steps`.
        ttl: seconds (or a `timedelta`) for which a cached result is good for this step; else for as long as the cache keeps it.
        on: the name of the executor that runs the function: "processes" (workers of the node, one per core, whose task can be cancelled), or
            one of `Cluster(executors=...)`; else it runs in the node itself. A cancelled or late attempt ends its worker.
            Function, arguments and result are copied; `current_step()` has its names, `progress` and `checkpoint`, but no `signal`. A name that the cluster does not have is refused when the workflow is registered, if its code says it. In `raftoral_nb.testing` it runs inline.
        where: a label of nodes (`Cluster(labels={3: ["gpu"]})`, `raftoral-nb node --label gpu`): the function runs on a node that has it, which is
            recorded before it begins; when that node is gone, on another one that has it. The step waits, and the run's log says so, as
            long as no node has the label. Takes one command more. Of no consequence in `raftoral_nb.testing`.

    Raises:
        BadArgumentError: an option makes no sense, or `at_most_once` meets retries.
        WorkflowDefinitionError: what is given is not a function.
    """
    try:
        options = StepOptions(
            retry=retry,
            timeout=timeout,
            total_timeout=total_timeout,
            at_most_once=at_most_once,
            cache=cache,
            ttl=ttl,
            on=on,
            where=where,
        )
    except BadArgumentError as error:
        if key is None and not callable(fn):
            raise  # over `def`: the traceback shows it
        raise BadArgumentError(f"step {_key(fn, key)!r}: {error}") from None
    if fn is None:
        return lambda function: StepFunction(_function(function), options, _key(function, key))
    return StepFunction(_function(fn), options, _key(fn, key))


def _function(fn: object) -> Callable[..., Any]:
    if isinstance(fn, StepFunction):
        raise WorkflowDefinitionError(f"{fn!r} is a step already: use {fn.key}.with_options(...) to change its options")
    if not callable(fn):
        raise WorkflowDefinitionError(f"a step is made of a function, not of {fn!r}: write @step(...) over `def`")
    return fn


def _key(fn: object, key: str | None) -> str:
    name = key if key is not None else str(getattr(fn, "__name__", None) or type(fn).__name__)
    check_key(name)
    return name


def _check_executor(on: object) -> None:
    if isinstance(on, str):
        if on:
            return
        raise BadArgumentError('on= is the name of an executor, such as "processes", not an empty text')
    kind = type(on).__name__
    made = getattr(on, "__name__", None) if callable(on) else f"lambda: {kind}(...)"
    raise BadArgumentError(
        f"on= is the name of an executor, not {on!r}: each node makes its own. Give the cluster the function that makes it, "
        f'Cluster(executors={{"pool": {made or kind}}}), and its name to the step, on="pool"; or take on="processes"'
    )


def _check_seconds(what: str, value: object) -> None:
    if not is_number(value) or not 0 <= cast(float, value) < math.inf:
        raise BadArgumentError(f"{what} is a number of seconds from 0 on, or a timedelta, not {value!r}")


def _check_number(what: str, value: object, least: float, most: float) -> None:
    good = isinstance(value, int | float) and type(value) is not bool and least <= value <= most
    if not good or value == math.inf:
        bounds = f"from {least:g} on" if most == math.inf else f"from {least:g} to {most:g}"
        raise BadArgumentError(f"{what} is a number {bounds}, not {value!r}")
