"""Parts that need no worker."""

import asyncio

import pytest

from migsvc import errors
from migsvc.api.errors import row_of
from migsvc.errors import CancelledError, InputError
from migsvc.protocol.ownership import JOURNAL_STATES
from migsvc.service.cancel import CancelToken
from migsvc.service.faults import MAX_LISTED_FINDINGS, fault_json
from migsvc.service.hub import Hub, wait_for_news
from migsvc.service.journal import ENDED
from migsvc.service.offer import read_summary
from migsvc.service.records import MigrationState, PauseWhen
from migsvc.storage.models import ENDED_STATES, OVER_STATES


def classes(base):
    return [base, *(found for cls in base.__subclasses__() for found in classes(cls))]


def test_errors_in_records_have_the_types_of_the_problem_documents():
    for cls in classes(errors.MigsvcError):
        if cls is errors.FindingsError:
            continue
        error = cls("d", [{"rule": "R"}]) if issubclass(cls, errors.FindingsError) else cls("d")
        assert fault_json(error)["type"] == row_of(error).uri


def test_errors_in_records_are_bounded_and_foreign_ones_name_their_class():
    many = errors.IncompatibleError("d", [{"rule": "R"}] * 1000)
    assert len(fault_json(many)["findings"]) == MAX_LISTED_FINDINGS
    shown = fault_json(ZeroDivisionError("x" * 10_000))
    assert shown["detail"].startswith("ZeroDivisionError")
    assert len(shown["detail"]) <= 2000


def test_states_are_spelt_alike_on_every_floor():
    assert [str(state) for state in MigrationState] == list(JOURNAL_STATES)
    assert {str(state) for state in ENDED} == set(ENDED_STATES)
    assert set(OVER_STATES) == {"committed", *ENDED_STATES}
    from migsvc.backends.base import PAUSE_CONDITIONS

    assert {str(when) for when in PauseWhen} == set(PAUSE_CONDITIONS)


def test_a_token_is_cancelled_before_the_point_of_no_return_only():
    async def work():
        token = CancelToken()
        token.check()
        token.close()
        assert not token.cancel("late")
        token.check()
        early = CancelToken()
        assert early.cancel("first")
        assert early.cancel("second")
        assert early.reason == "first"
        for stopped in (early.check, early.close):
            with pytest.raises(CancelledError, match="first"):
                stopped()

    asyncio.run(work())


def test_waits_end_at_once_when_they_are_cancelled():
    async def work():
        token = CancelToken()
        loop = asyncio.get_running_loop()
        loop.call_later(0.02, token.cancel, "enough")
        with pytest.raises(CancelledError, match="enough"):
            await token.sleep(30)
        with pytest.raises(CancelledError):
            await token.race(asyncio.sleep(30))
        fresh = CancelToken()
        await fresh.sleep(0.001)
        assert await fresh.race(asyncio.sleep(0, "done")) == "done"

    asyncio.run(work())


def test_news_wake_everybody_who_watched_before_them():
    async def work():
        hub = Hub()
        first, second, other = hub.watch("x"), hub.watch("x"), hub.watch("y")
        hub.tell("x")
        assert await wait_for_news(first, 1)
        assert await wait_for_news(second, 1)
        assert not await wait_for_news(other, 0.001)
        hub.tell_all()
        assert await wait_for_news(other, 1)

    asyncio.run(work())


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"machine": "{}", "source_address": "a:1", "source_host_id": "i", "answer_token": "0" * 32},
        {"machine": "[" * 5000, "source_address": "a:1", "source_host_id": "i", "answer_token": "0" * 32},
        {"machine": "{}", "source_address": "a:1", "source_host_id": "i", "answer_token": "short"},
        {"machine": "{}", "source_address": "a" * 999, "source_host_id": "i", "answer_token": "0" * 32},
        {"machine": {}, "source_address": "a:1", "source_host_id": "i", "answer_token": "0" * 32},
        {"machine": "{}", "source_address": "a:1", "source_host_id": "i", "answer_token": "0" * 32, "more": 1},
    ],
)
def test_an_offer_that_is_none_is_refused(raw):
    with pytest.raises(InputError):
        read_summary(raw)
