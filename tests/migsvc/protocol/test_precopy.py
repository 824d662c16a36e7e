"""When to stop copying behind a running VM."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migsvc.protocol import (
    PrecopyPolicy,
    PrecopyVerdict,
    RoundFigures,
    bandwidth_bytes_per_s,
    estimated_downtime_ns,
)

MIB = 1 << 20


def figures(number, wire_bytes, duration_ns):
    return RoundFigures(number, wire_bytes // 4096, 0, wire_bytes, duration_ns)


def test_stops_when_the_rest_fits_the_downtime():
    policy = PrecopyPolicy(downtime_limit_ns=100_000_000)
    # 25600 pages are 100 MiB; at 1000 MiB/s they take 100 ms.
    assert policy.decide([figures(1, MIB, 1)], 25_600, 1000 * MIB).verdict is PrecopyVerdict.STOP_AND_COPY
    assert policy.decide([figures(1, MIB, 1)], 25_601, 1000 * MIB).verdict is PrecopyVerdict.NEXT_ROUND


def test_what_no_round_shortens_counts():
    policy = PrecopyPolicy(downtime_limit_ns=100_000_000, fixed_ns=50_000_000)
    assert policy.decide([], 25_600, 1000 * MIB).verdict is PrecopyVerdict.NEXT_ROUND
    assert policy.decide([], 12_800, 1000 * MIB).verdict is PrecopyVerdict.STOP_AND_COPY


def test_stops_after_the_most_rounds_allowed():
    policy = PrecopyPolicy(downtime_limit_ns=1, max_rounds=2)
    rounds = [figures(1, MIB, 1000)]
    assert policy.decide(rounds, 1000, 1).verdict is PrecopyVerdict.NEXT_ROUND
    decision = policy.decide([*rounds, figures(2, MIB, 1000)], 1000, 1)
    assert decision.verdict is PrecopyVerdict.STOP_AND_COPY
    assert "2 rounds" in decision.reason


def test_nothing_left_always_fits():
    assert PrecopyPolicy(downtime_limit_ns=0).decide([], 0, 0).verdict is PrecopyVerdict.STOP_AND_COPY


def test_without_a_bandwidth_nothing_is_promised():
    assert estimated_downtime_ns(1, 0) > 10**18
    assert PrecopyPolicy().decide([], 1, 0).verdict is PrecopyVerdict.NEXT_ROUND


def test_bandwidth_is_that_of_the_last_round_that_measures_it():
    rounds = [figures(1, 100 * MIB, 10**9), figures(2, 50 * MIB, 10**9), figures(3, 4096, 10**6)]
    assert bandwidth_bytes_per_s(rounds) == 50 * MIB
    assert bandwidth_bytes_per_s([figures(1, 4096, 10**6), figures(2, 4096, 10**6)]) == 4_096_000
    assert bandwidth_bytes_per_s([]) == 0


@given(
    pages=st.integers(0, 1 << 24),
    bandwidth=st.integers(0, 1 << 40),
    limit=st.integers(0, 1 << 40),
    rounds=st.integers(0, 40),
)
def test_verdict_is_stop_if_and_only_if_the_estimate_fits_or_the_rounds_are_used_up(pages, bandwidth, limit, rounds):
    policy = PrecopyPolicy(downtime_limit_ns=limit, max_rounds=30)
    decision = policy.decide([figures(n, MIB, 1000) for n in range(rounds)], pages, bandwidth)
    stop = decision.estimated_downtime_ns <= limit or rounds >= 30
    assert (decision.verdict is PrecopyVerdict.STOP_AND_COPY) == stop


@pytest.mark.parametrize("pages", [1, 1000])
def test_estimate_grows_with_the_pages_and_shrinks_with_the_bandwidth(pages):
    assert (
        estimated_downtime_ns(pages + 1, MIB)
        > estimated_downtime_ns(pages, MIB)
        > estimated_downtime_ns(pages, 2 * MIB)
    )
