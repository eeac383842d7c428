"""Callables and classes of the notebook that pickle by name, or lose parts: shipped whole into another process, or refused by name."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from raftoral_nb import errors
from raftoral_nb.workflow.codec import pickling, values
from raftoral_nb.workflow.shipping import wholeness
from raftoral_nb.workflow.shipping.definitions import build, load
from raftoral_nb.workflow.shipping.fingerprints import fingerprint

RunCell = Callable[..., dict[str, Any]]
RunNew = Callable[..., str]

CELL = """
import abc, collections, contextlib, dataclasses, enum, functools, typing
from typing import Annotated, ClassVar, Generic, NamedTuple, NewType, Protocol, TypedDict, TypeVar
import attrs, msgspec, pydantic

T = TypeVar("T")
P = typing.ParamSpec("P")
Ts = typing.TypeVarTuple("Ts")
UserId = NewType("UserId", int)

@functools.cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

@functools.lru_cache(maxsize=2, typed=True)
def half(n):
    "Halves."
    return n / 2
half.unit = "eur"

@functools.singledispatch
def show(x):
    return "object"

@show.register
def _(x: int):
    return "int"

@show.register(list)
def _(x):
    return [show(part) for part in x]
show.note = "mine"

class Tools:
    @functools.cached_property
    def once(self):
        return [1]

    @functools.lru_cache(maxsize=3)
    def kept(self, x):
        return x

    @functools.singledispatchmethod
    def of(self, x):
        return "object"

    @of.register
    def _(self, x: int):
        return "int"

    double = functools.partialmethod(lambda self, x, y: x * y, 2)

class Shape(msgspec.Struct, tag=True):
    name: str = "?"

class Circle(Shape, frozen=False, rename="camel", kw_only=True, forbid_unknown_fields=True):
    in_metres: float
    holes: list = msgspec.field(default_factory=list)
    UNIT: ClassVar[str] = "m"

    def __post_init__(self):
        self.in_metres += 1

    def area(self):
        return 3 * self.in_metres ** 2

class Pair(msgspec.Struct, Generic[T], frozen=True, order=True):
    one: T
    two: "Pair | None" = None

Point = msgspec.defstruct("Point", [("x", int), ("y", int, 7)])

class Planet(enum.Enum):
    EARTH = (6.0, 2)
    TERRA = (6.0, 2)
    MARS = (0.6, 1)

    def __init__(self, mass, radius):
        self.mass = mass
        self.radius = radius

class Coin(enum.Enum):
    PENNY = 1, "a penny"

    def __new__(cls, value, label):
        made = object.__new__(cls)
        made._value_ = value
        made.label = label
        return made

class Rights(enum.IntFlag):
    READ = 1
    WRITE = 2
    ALL = 3

class Named(Protocol):
    name: str

class Base(abc.ABC):
    @abc.abstractmethod
    def go(self): ...

@Base.register
class Other:
    pass

class Movie(TypedDict, total=False):
    title: typing.Required[str]
    year: int

class Row(NamedTuple):
    a: int
    b: str = "x"

@attrs.define
class At:
    x: int
    y: list = attrs.field(factory=list, converter=list)

class Model(pydantic.BaseModel):
    x: int
    tags: list[str] = []
    _seen: int = pydantic.PrivateAttr(default=4)

    @pydantic.field_validator("x")
    @classmethod
    def more(cls, x):
        return x + 1

@functools.total_ordering
@dataclasses.dataclass(slots=True, frozen=True)
class Version:
    v: int = 0

    def __lt__(self, other):
        return self.v < other.v

class Box(Generic[T]):
    def __init__(self, x: T):
        self.x = x

class Slotted:
    __slots__ = ("x", "__hidden")

    def __init__(self, x):
        self.x = self.__hidden = x

@contextlib.contextmanager
def opened():
    yield "open"
"""

KINDS = {
    "fib": ("fib(30), fib.cache_info().misses", (832040, 31)),
    "half": ("half(3), half(3), half.cache_info().hits, half.cache_parameters(), half.unit, half.__doc__, half.__name__",
             (1.5, 1.5, 1, {"maxsize": 2, "typed": True}, "eur", "Halves.", "half")),
    "show": ("show(1), show('a'), show([1, 'a']), show.note, show.__name__", ("int", "object", ["int", "object"], "mine", "show")),
    "Tools": ("(lambda t: (t.once, t.once is t.once, t.kept(2), t.of(1), t.of('a'), t.double(4)))(Tools())",
              ([1], True, 2, "int", "object", 8)),
    "Circle": (("Circle(in_metres=1).area(), Circle.__struct_fields__, msgspec.json.encode(Circle(in_metres=1)), Circle.UNIT, "
               "Circle(in_metres=1).holes is Circle(in_metres=1).holes, msgspec.json.decode(b'{\"type\":\"Circle\",\"inMetres\":2}', type=Circle).in_metres"),
               (12, ("name", "in_metres", "holes"), None, "m", False, 3.0)),
    "Pair": ("Pair(1, Pair(2)).two.one, Pair(1) < Pair(2), hash(Pair(1)) == hash(Pair(1)), Pair.__parameters__[0].__name__",
             (2, True, True, "T")),
    "Point": ("(Point(1).x, Point(1).y)", (1, 7)),
    "Planet": ("Planet.EARTH.mass, Planet.MARS.radius, Planet.TERRA is Planet.EARTH, Planet((0.6, 1)) is Planet.MARS, list(Planet.__members__)",
               (6.0, 1, True, True, ["EARTH", "TERRA", "MARS"])),
    "Coin": ("Coin.PENNY.label, Coin(1) is Coin.PENNY", ("a penny", True)),
    "Rights": ("Rights.READ | Rights.WRITE is Rights.ALL, Rights['ALL'].value, Rights(3).name", (1, 3, "ALL")),
    "Named": ("Named.__protocol_attrs__ if hasattr(Named, '__protocol_attrs__') else {'name'}, Named._is_protocol", ({"name"}, True)),
    "Base": ("isinstance(Other(), Base), sorted(Base.__abstractmethods__)", (True, ["go"])),
    "Movie": ("sorted(Movie.__required_keys__), sorted(Movie.__optional_keys__)", (["title"], ["year"])),
    "Row": ("tuple(Row(1)), Row(1)._asdict()", ((1, "x"), {"a": 1, "b": "x"})),
    "At": ("At(1, (2,)).y, At(1) == At(1)", ([2], True)),
    "Model": ("Model(x=1).x, Model(x=1, tags=['a']).tags, Model(x=1)._seen, list(Model.model_fields)", (2, ["a"], 4, ["x", "tags"])),
    "Version": ("Version(2) >= Version(1), Version(1) == Version(1)", (True, True)),
    "Slotted": ("Slotted(1).x, hasattr(Slotted(1), '__dict__'), Slotted.__slots__", (1, False, ("x", "__hidden"))),
    "Box": ("Box[int](3).x, Box.__parameters__[0].__name__", (3, "T")),
    "UserId": ("UserId(3), UserId.__supertype__, UserId.__name__", (3, int, "UserId")),
    "P": ("P.__name__, Ts.__name__", ("P", "Ts")),
    "opened": ("[opened().__enter__()]", ["open"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_notebook_defines_does_the_same_in_another_process(
    kind: str, run_cell: RunCell, run_new: RunNew, tmp_path: Path
) -> None:
    expression, expected = KINDS[kind]
    cell = run_cell(CELL + f"\nasync def flow(ctx, input):\n    return {expression}\n")
    here = result(cell["flow"])
    for mine, wanted in zip(here, expected, strict=True):
        assert mine == wanted or wanted is None
    definition, _ = build("flow", 1, cell["flow"])
    (tmp_path / "definition").write_bytes(msgspec.msgpack.encode(definition))
    printed = run_new(
        """
        import asyncio, pathlib, sys, msgspec
        from raftoral_nb.core import records as model
        from raftoral_nb.workflow.shipping import definitions
        definition = msgspec.msgpack.decode(pathlib.Path(sys.argv[1]).read_bytes(), type=model.Definition)
        print(repr(asyncio.run(definitions.load(definition)(None, 1))))
        """,
        tmp_path / "definition",
    )
    cell["half"].cache_clear()
    cell["fib"].cache_clear()
    assert printed == repr(result(cell["flow"]))


def result(function: Any) -> Any:
    try:
        function(None, 1).send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError


def test_every_copy_has_a_cache_of_its_own(run_cell: RunCell) -> None:
    cell = run_cell(CELL + "\nasync def flow(ctx, input):\n    return fib(5), fib.cache_info().misses\n")
    cell["fib"](10)
    definition, captured = build("flow", 1, cell["flow"])
    assert ("fib", "function") in [(one.name, one.kind) for one in captured]
    assert result(load(definition)) == result(load(definition)) == (5, 6)
    assert cell["fib"].cache_info().misses == 11


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("    return n if n < 2", "    return n if n < 3"),
        ("maxsize=2, typed", "maxsize=5, typed"),
        ('    return "int"\n\n@show', '    return "integer"\n\n@show'),
        ("    def once(self):\n        return [1]", "    def once(self):\n        return [2]"),
        ("    def kept(self, x):\n        return x", "    def kept(self, x):\n        return x + 1"),
        ("    UNIT: ClassVar[str] = 'm'".replace("'", '"'), '    UNIT: ClassVar[str] = "km"'),
    ],
)
def test_a_change_within_a_wrapper_is_a_change_of_the_workflow(run_cell: RunCell, before: str, after: str) -> None:
    text = CELL + "\nasync def flow(ctx, input):\n    return fib, half, show, Tools, Circle\n"
    assert before in text
    first, same, other = (run_cell(one)["flow"] for one in (text, text, text.replace(before, after)))
    result(first)[0](20)  # what a cache remembers is no change
    assert fingerprint(first) == fingerprint(same) != fingerprint(other)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("MISSING", r"captured 'MISSING' .* of type Missing, .* only the name __main__\.MISSING"),
        ("VAR.get()", r"captured 'VAR' .*ContextVar"),
        ("local.x", r"captured 'local' .*local"),
        ("refs", r"captured 'refs' .*weakref"),
    ],
)
def test_what_is_only_here_is_refused_by_name(run_cell: RunCell, line: str, named: str) -> None:
    cell = run_cell(
        f"""
        import contextvars, threading, weakref
        class Missing:
            def __reduce__(self):
                return "MISSING"
        MISSING = Missing()
        VAR = contextvars.ContextVar("VAR", default=1)
        local = threading.local()
        refs = weakref.WeakValueDictionary()
        async def flow(ctx, input):
            return {line}
        """
    )
    with pytest.raises(errors.CodeNotShippableError, match=named):
        build("flow", 1, cell["flow"])


def test_a_value_that_is_only_a_name_of_the_notebook_is_refused_where_it_is_recorded(run_cell: RunCell) -> None:
    cell = run_cell("class Missing:\n    def __reduce__(self):\n        return 'MISSING'\nMISSING = Missing()\n")
    with pytest.raises(errors.ValueNotShippableError, match=r"step x: .* __main__\.MISSING"):
        values.encode([cell["MISSING"]], what="step x")


def test_a_stranger_has_no_class_of_this_process_and_leaves_none_behind(run_cell: RunCell) -> None:
    cell = run_cell("class Order:\n    pass\ndef both():\n    return Order, Order()\n")
    data = pickling.dumps_code(cell["both"], 10_000)
    cls, made = pickling.loads_code(data, "both", stranger=True)[0]()
    assert cls is not cell["Order"]
    assert type(made) is cls
    assert pickling.loads(data)()[0] is cell["Order"]


def test_a_stranger_finds_no_name_of_the_notebook() -> None:
    with pytest.raises(pickle.UnpicklingError, match="refers to 'order' of the notebook"):
        pickling.loads_code(b"c__main__\norder\n.", "order", stranger=True)


def test_a_class_that_comes_back_without_its_parts_is_refused_by_name(run_cell: RunCell) -> None:
    cell = run_cell(
        """
        class Forgets(type):
            def __setattr__(cls, name, value):
                if name != "price":
                    super().__setattr__(name, value)
        class Quote(metaclass=Forgets):
            price = 3
            def total(self):
                return self.price
        async def flow(ctx, input):
            return Quote().total()
        """
    )
    with pytest.raises(
        errors.CodeNotShippableError, match=r"the class Quote, made by __main__\.Forgets, .* without price"
    ):
        build("flow", 1, cell["flow"])


def test_every_kind_of_part_is_missed() -> None:
    class Fields(msgspec.Struct):
        a: int

    class Bare(msgspec.Struct):
        pass

    for whole, copy, named in (
        (type("A", (), {"x": 1, "y": 2}), type("A", (), {"x": 1}), "y"),
        (type("A", (), {"__call__": lambda self: 1}), type("A", (), {}), "__call__"),
        (Fields, Bare, "a, the field a"),
    ):
        holder = _holding(whole)
        assert f"without {named}" in str(wholeness.lost_parts(holder, _holding(copy)))
        assert wholeness.lost_parts(holder, _holding(whole)) is None


def _holding(cls: type) -> Any:
    def function() -> type:
        return cls

    return function


def test_ipythons_open_is_the_one_of_python(run_cell: RunCell) -> None:
    from IPython.core import interactiveshell

    cell = run_cell("async def flow(ctx, input):\n    return open\n")
    cell["open"] = interactiveshell._modified_open
    definition, captured = build("flow", 1, cell["flow"])
    assert captured == ()
    assert result(load(definition)) is open


def test_a_shell_line_is_named_as_it_was_written(run_cell: RunCell) -> None:
    class Shell:
        def run_line_magic(self, name: str, line: str) -> None: ...

        def getoutput(self, command: str) -> list[str]:
            return [command]

        def get(self) -> Shell:
            return self

    text = """
    def listing(n):
        if n:
            {line}
        return 1
    async def flow(ctx, input):
        return listing(1)
    """
    for line, said in (
        (
            "out = get_ipython().getoutput('ls -l {n}')",
            r"`out = !ls -l {n}` \(cell:4\)\. .*subprocess\.run\('ls -l {n}'",
        ),
        ("get_ipython().system('pip list')", r"`!pip list` .*in a step"),
        ("get_ipython().run_line_magic('timeit', '1 + 1')", r"`%timeit 1 \+ 1` .* a magic of IPython"),
        ("get_ipython().run_cell_magic('bash', '-e', 'ls')", r"`%%bash -e` "),
        ("shell = get_ipython()", r"listing calls get_ipython\(\)"),
    ):
        cell = run_cell(text.format(line=line))
        cell["get_ipython"] = Shell().get
        with pytest.raises(
            errors.CodeNotShippableError,
            match=f"'flow' cannot be shipped: listing .*{said}" if "calls" not in said else said,
        ):
            build("flow", 1, cell["flow"])


def test_submodules_that_are_loaded_are_loaded_where_the_code_is(
    run_cell: RunCell, run_new: RunNew, tmp_path: Path
) -> None:
    cell = run_cell(
        "import xml.etree.ElementTree\nasync def flow(ctx, input):\n    return getattr(xml, 'e' + 'tree').ElementTree.fromstring('<a/>').tag\n"
    )
    (tmp_path / "definition").write_bytes(msgspec.msgpack.encode(build("flow", 1, cell["flow"])[0]))
    printed = run_new(
        """
        import asyncio, pathlib, sys, msgspec
        from raftoral_nb.core import records as model
        from raftoral_nb.workflow.shipping import definitions
        assert "xml.etree.ElementTree" not in sys.modules
        definition = msgspec.msgpack.decode(pathlib.Path(sys.argv[1]).read_bytes(), type=model.Definition)
        print(asyncio.run(definitions.load(definition)(None, 1)))
        """,
        tmp_path / "definition",
    )
    assert printed == "a"
