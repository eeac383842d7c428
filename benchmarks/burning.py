"""The work of a fan-out: a function that only computes, and what it is given. Needs nothing."""

from __future__ import annotations

from collections.abc import Mapping

MODULUS = 2147483647


def burnt(given: tuple[int, int]) -> int:
    """Return the so many-th random number after a seed."""
    number, rounds = given
    for _ in range(rounds):
        number = number * 16807 % 2147483647
    return number


def numbers_of(numbers: Mapping[str, int]) -> list[tuple[int, int]]:
    """Return what each function is given: its seed, and how many rounds it goes."""
    return [(seed, numbers["rounds"]) for seed in range(1, numbers["functions"] + 1)]


def expected(numbers: Mapping[str, int]) -> int:
    """Return the sum of what all functions return, without going all the rounds."""
    factor = pow(16807, numbers["rounds"], MODULUS)
    return sum(seed * factor % MODULUS for seed in range(1, numbers["functions"] + 1))
