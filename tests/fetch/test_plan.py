"""Which bytes are requested next."""

from hypothesis import given
from hypothesis import strategies as st

from mirror.fetch.plan import NEAR, SMALLEST_SHARE, Next, next_part, shared, subtract

MIB = 1024 * 1024


def test_an_empty_file_is_fetched_from_its_start() -> None:
    assert next_part([(0, 100)], [], [], 0, part_size=40) == Next(0, 40)


def test_a_demand_comes_before_what_follows_the_cursor() -> None:
    assert next_part([(0, 1000)], [], [(700, 710)], 200, part_size=50) == Next(700, 750)


def test_the_longest_waiting_demand_comes_first() -> None:
    assert next_part([(0, 1000)], [], [(700, 710), (300, 310)], 0, part_size=50) == Next(700, 750)


def test_what_follows_the_cursor_comes_before_the_rest() -> None:
    assert next_part([(0, 1000)], [], [], 500, part_size=50) == Next(500, 550)


def test_the_rest_comes_last() -> None:
    assert next_part([(0, 100), (400, 450)], [], [], 900, part_size=50) == Next(0, 50)


def test_a_part_does_not_cross_what_is_present_or_under_way() -> None:
    assert next_part([(0, 100), (200, 300)], [(220, 300)], [], 200, part_size=500) == Next(200, 220)


def test_a_demand_that_a_part_reaches_soon_is_waited_for() -> None:
    gaps = [(0, 64 * MIB)]
    assert next_part(gaps, [(0, 16 * MIB)], [(NEAR, NEAR + 10)], None) is None


def test_a_demand_far_ahead_of_a_part_cuts_it() -> None:
    gaps = [(0, 64 * MIB)]
    chosen = next_part(gaps, [(0, 16 * MIB)], [(10 * MIB, 10 * MIB + 5)], None)
    assert chosen == Next(10 * MIB, 16 * MIB, cut=0)


def test_a_demand_for_present_bytes_asks_for_nothing() -> None:
    assert next_part([(500, 600)], [], [(0, 100)], None) is None


def test_nothing_is_planned_when_everything_is_under_way() -> None:
    assert next_part([(0, 100)], [(0, 100)], [], 0) is None


ranges = st.lists(st.integers(0, 200), unique=True, max_size=12).map(
    lambda edges: list(zip(*[iter(sorted(edges))] * 2, strict=False))
)


@given(ranges, ranges)
def test_subtract_agrees_with_sets_of_bytes(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    def covered(spans: list[tuple[int, int]]) -> set[int]:
        return {byte for start, stop in spans for byte in range(start, stop)}

    left = subtract(a, b)
    assert covered(left) == covered(a) - covered(b)
    assert left == sorted(left)
    assert all(start < stop for start, stop in left)


@given(ranges, st.integers(0, 210), st.integers(1, 50))
def test_parts_one_after_the_other_fetch_each_missing_byte_once(
    gaps: list[tuple[int, int]], cursor: int, part_size: int
) -> None:
    missing = {byte for start, stop in gaps for byte in range(start, stop)}
    under_way: list[tuple[int, int]] = []
    while (part := next_part(gaps, under_way, [], cursor, part_size)) is not None:
        fetched = set(range(part.start, part.stop))
        assert fetched
        assert fetched <= missing
        missing -= fetched
        under_way = sorted([*under_way, (part.start, part.stop)])
    assert not missing


def test_the_longest_part_is_halved_where_all_are_alike() -> None:
    assert shared([((0, 4 * MIB), None), ((8 * MIB, 16 * MIB), None)], None, 0.0) == Next(
        12 * MIB, 16 * MIB, cut=1
    )
    assert shared([((0, 4 * MIB), MIB), ((8 * MIB, 16 * MIB), MIB)], MIB, 0.0) == Next(
        12 * MIB, 16 * MIB, cut=1
    )


def test_a_part_that_crawls_gives_most_of_it_away() -> None:
    """Both end at the same moment: 8 MiB at 1 and 7 MiB a second, the latter a second later."""
    assert shared([((0, 8 * MIB), MIB), ((8 * MIB, 16 * MIB), 8 * MIB)], 7 * MIB, 1.0) == Next(
        8 * MIB - 49 * MIB // 8, 8 * MIB, cut=0
    )


def test_a_part_that_brings_nothing_gives_nearly_all_of_it_away() -> None:
    taken = shared([((0, 8 * MIB), 0.0), ((8 * MIB, 16 * MIB), MIB)], MIB, 0.2)
    assert taken is not None
    assert taken.cut == 0
    assert taken.start < MIB // 4


def test_what_will_be_there_before_another_request_comes_to_its_rate_is_left_alone() -> None:
    assert shared([((0, 8 * MIB), 8 * MIB)], 8 * MIB, 1.0) is None
    assert shared([((0, 2 * SMALLEST_SHARE - 1), MIB)], MIB, 0.0) is None
    assert shared([], MIB, 0.0) is None


@given(
    st.lists(st.tuples(st.integers(1, 1 << 30), st.one_of(st.none(), st.floats(0, 1e9))), min_size=1),
    st.one_of(st.none(), st.floats(1, 1e9)),
    st.floats(0, 10),
)
def test_a_share_is_the_end_of_a_part(
    parts: list[tuple[int, float | None]], usual: float | None, delay: float
) -> None:
    under_way = [((number << 31, (number << 31) + size), rate) for number, (size, rate) in enumerate(parts)]
    taken = shared(under_way, usual, delay)
    if taken is not None:
        assert taken.cut is not None
        (at, stop), _ = under_way[taken.cut]
        assert at < taken.start <= stop - SMALLEST_SHARE
        assert taken.stop == stop
