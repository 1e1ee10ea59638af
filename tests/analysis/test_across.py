"""What two datasets' codes have in common."""

from dataclasses import replace

import numpy as np
import pytest

from lapa.analysis.across import across

DIRECTIONS = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])


def test_the_motions_of_the_same_code_agree_whatever_their_unit(encoded_of, pairs_count: int) -> None:
    codes = np.random.default_rng(0).integers(4, size=(pairs_count, 1))
    here = encoded_of(codes, actions=DIRECTIONS[codes[:, 0]])
    same = encoded_of(codes, actions=40 * DIRECTIONS[codes[:, 0]])
    opposite = encoded_of(codes, actions=-DIRECTIONS[codes[:, 0]])
    found = {name: across({"a": here, "b": other})[0] for name, other in (("same", same), ("opposite", opposite))}
    assert found["same"].motion_agreement == pytest.approx(1, abs=1e-6)
    assert found["opposite"].motion_agreement == pytest.approx(-1, abs=1e-2)
    assert found["same"].usage_overlap == pytest.approx(1) and len(found["same"].codes) == 4


def test_motions_along_axes_of_other_names_are_not_compared(encoded_of, pairs_count: int) -> None:
    codes = np.random.default_rng(0).integers(4, size=(pairs_count, 1))
    here = encoded_of(codes, actions=DIRECTIONS[codes[:, 0]])
    there = replace(here, names={"actions": ("forward", "sideways")})
    assert across({"a": here, "b": there})[0].motion_agreement is None


def test_datasets_that_share_no_code_overlap_by_nothing(encoded_of, pairs_count: int) -> None:
    low = np.random.default_rng(0).integers(4, size=(pairs_count, 1))
    found, exhibit = across({"a": encoded_of(low), "b": encoded_of(low + 4)})
    assert found.usage_overlap == pytest.approx(0, abs=1e-9) and found.codes == ()
    assert exhibit.still.data.startswith(b"\x89PNG")
