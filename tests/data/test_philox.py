"""Philox4x32-10 against the known answers of its authors."""

from __future__ import annotations

import numpy as np
import pytest

from fastlm.data.philox import Stream, draws, philox4x32, wide

# From Random123's kat_vectors: counter, key, result.
KNOWN = [
    ((0,) * 4, (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF, 0xFFFFFFFF), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]) -> None:
    result = philox4x32(np.array([counter], dtype=np.uint32), key)
    assert tuple(result[0].tolist()) == expected


def test_every_part_of_the_counter_and_key_changes_the_draw() -> None:
    base = {"seed": 1, "epoch": 2, "stream": Stream.TOKEN, "sentences": [3], "positions": 4}
    changes = [{}, {"seed": 5}, {"seed": 1 + 2**40}, {"epoch": 7}, {"stream": Stream.ORDER}, {"positions": 8}]
    changes += [{"sentences": [9]}, {"sentences": [3 + 2**32]}, {"sentences": [3 + 2**55]}]
    results = {tuple(draws(**{**base, **change})[0].tolist()) for change in changes}  # type: ignore[arg-type]
    assert len(results) == len(changes)


def test_a_draw_does_not_depend_on_its_neighbours() -> None:
    together = draws(0, 0, Stream.TOKEN, np.arange(100))
    alone = np.concatenate([draws(0, 0, Stream.TOKEN, [i]) for i in range(100)])
    assert np.array_equal(together, alone)


def test_wide_puts_the_first_word_high() -> None:
    assert wide(np.array([[1, 2, 3, 4]], dtype=np.uint32)).tolist() == [(1 << 32) + 2]
