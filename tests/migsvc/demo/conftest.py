"""Records as a finished demonstration leaves them."""

from __future__ import annotations

import pytest

from migsvc.api import examples
from migsvc.demo.verdict import Final


def migration(number, smm=False, shadow="none", smm_shadow="none", state="completed"):
    carried = [{**examples.CARRIED, "smm": smm, "shadow": shadow, "smm_shadow": smm_shadow}]
    hosts = ("host-a", "host-b") if number % 2 == 0 else ("host-b", "host-a")
    stats = {**examples.MIGRATION["stats"], "carried": carried}
    base = {**examples.MIGRATION, "state": state, "stats": stats}
    return {**base, "from": hosts[0], "to": hosts[1], "moment": "any"}


def final(**changes):
    values = {
        "stop_reason": "debug_exit",
        "exit_code": 0,
        "retired_instructions": 1000,
        "state_digest": "ab" * 32,
        "console": b"1\n2\n",
    }
    return Final(**{**values, **changes})


@pytest.fixture
def make_final():
    return final


@pytest.fixture
def migrations():
    return [migration(0), migration(1, smm=True, smm_shadow="sti"), migration(2, shadow="sti")]


@pytest.fixture
def make_migration():
    return migration
