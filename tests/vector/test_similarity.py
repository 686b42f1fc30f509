"""Many vectors, some at a time, and one by itself are directed alike."""

import numpy as np
import pytest

from app.core.constants import Distance
from app.core.errors import InvalidChangeError
from app.db.vector.similarity import directed, directed_one

MANY = np.random.default_rng(1).standard_normal((7, 30_000)).astype(np.float32)  # two rows at a time


@pytest.mark.parametrize("distance", Distance)
def test_some_at_a_time_are_as_each_alone(distance: Distance) -> None:
    wide = MANY.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True) if distance == Distance.COSINE else 1.0
    expected = (wide / lengths).astype(np.float32)
    np.testing.assert_allclose(directed(distance, MANY), expected, rtol=1e-6)
    np.testing.assert_allclose([directed_one(distance, each) for each in MANY], expected, rtol=1e-6)


@pytest.mark.parametrize("place", [0, 3, 6])
def test_zeros_are_named_by_their_place_among_all(place: int) -> None:
    vectors = MANY.copy()
    vectors[place] = 0
    with pytest.raises(InvalidChangeError, match=f"vector {place} is all zeros"):
        directed(Distance.COSINE, vectors)
    with pytest.raises(InvalidChangeError, match="all zeros"):
        directed_one(Distance.COSINE, vectors[place])
    assert not directed_one(Distance.L2, vectors[place]).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("distance", Distance)
def test_what_is_not_finite_is_refused_wherever_it_is(distance: Distance, bad: float) -> None:
    vectors = MANY.copy()
    vectors[5, 9] = bad
    with pytest.raises(InvalidChangeError, match="not finite"):
        directed(distance, vectors)
    with pytest.raises(InvalidChangeError, match="not finite"):
        directed_one(distance, vectors[5])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [1e-44, 1e-30, 1e-10, 1.0, 1e10, 1e30, 3e38])
def test_a_question_has_its_direction_whatever_its_length(size: float) -> None:
    vector = np.array([size, -size], dtype=np.float32)
    assert directed_one(Distance.COSINE, vector) == pytest.approx([0.5**0.5, -(0.5**0.5)], rel=1e-6)
    assert np.array_equal(directed_one(Distance.L2, vector), vector)


@pytest.mark.parametrize(
    ("vector", "distance"), [([np.nan, 1], "l2"), ([np.inf, 1], "cosine"), ([1, -np.inf], "l2"), ([0, 0], "cosine")]
)
def test_a_question_without_a_direction_is_refused(vector: list[float], distance: str) -> None:
    with pytest.raises(InvalidChangeError, match=r"not finite|all zeros"):
        directed_one(Distance(distance), np.array(vector, dtype=np.float32))
