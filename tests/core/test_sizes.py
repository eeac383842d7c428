"""Sizes in words, and words as sizes."""

from __future__ import annotations

from typing import Any

import pytest

from raftoral_nb.core.sizes import bytes_of, size_words


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (9949, "9.9 kB"),
        (9950, "10 kB"),
        (999_499, "999 kB"),
        (999_960, "1.0 MB"),
        (52_400_000, "52 MB"),
        (1024**3, "1.1 GB"),
        (5 * 10**15, "5000 TB"),
    ],
)
def test_a_size_is_told_in_the_unit_that_fits(size: int, words: str) -> None:
    assert size_words(size) == words


def test_coarse_sizes_are_whole_and_rounded_up() -> None:
    assert [size_words(size, coarse=True) for size in (0, 1, 999, 1000, 1001, 999_000, 999_001, 2_500_000)] == [
        *("1 kB", "1 kB", "1 kB", "1 kB", "2 kB", "999 kB", "1 MB", "3 MB")
    ]


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ("20kB", 20_000),
        ("20 KB", 20_000),
        ("1.5 GB", 1_500_000_000),
        ("60MB", 60_000_000),
        ("2GiB", 2 * 1024**3),
        ("0.0015kB", 1),
        ("8TB", 8 * 10**12),
        (" 5 ", 5),
        (7, 7),
    ],
)
def test_a_size_is_read_with_its_unit(given: Any, size: int) -> None:
    assert bytes_of(given) == size


@pytest.mark.parametrize("given", ["", "x", "5 XB", "5iB", "-5MB", "1e3", "1..5MB", None, True, 1.5, b"5MB", "9" * 31])
def test_what_is_no_size_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="expected a size such as 20kB"):
        bytes_of(given)


def test_what_is_told_can_be_read_again() -> None:
    for size in (1, 999, 4000, 52_000_000, 3_000_000_000):
        assert bytes_of(size_words(size).replace(" bytes", "").replace(" byte", "")) == size
