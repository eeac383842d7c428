"""Models of pydantic as values: as they are, and as the annotation of an input."""

from __future__ import annotations

from typing import Any

import pytest

from raftoral_nb import InputTypeError, WorkflowContext
from raftoral_nb.testing import workflow_test
from tests.testing.test_typed_values import check_everywhere

pydantic: Any = pytest.importorskip("pydantic", reason="it is among the extras for tests: pip install -e '.[test]'")


class Address(pydantic.BaseModel):  # type: ignore[misc]
    street: str
    number: int = pydantic.Field(gt=0)


class Customer(pydantic.BaseModel):  # type: ignore[misc]
    name: str
    addresses: list[Address]


async def greet(ctx: WorkflowContext, customer: Customer) -> str:
    return await ctx.compute("greet", lambda: f"{customer.name} of {customer.addresses[0].street}")


def ada() -> Customer:
    return Customer(name="Ada", addresses=[Address(street="Main", number=7)])


def test_a_model_passes_wherever_a_value_is_recorded() -> None:
    check_everywhere(ada())


def test_a_model_is_the_annotation_of_an_input_and_what_is_none_is_refused() -> None:
    with workflow_test() as test:
        assert test.finish(test.start(greet, ada())) == "Ada of Main"
        with pytest.raises(InputTypeError, match="customer"):
            test.start(greet, {"name": "Ada", "addresses": []})
