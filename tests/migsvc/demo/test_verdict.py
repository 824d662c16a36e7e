import base64
import io

import pytest
from rich.console import Console

from migsvc.demo.console import ConsoleFollower, GapError
from migsvc.demo.plan import MOMENTS, Plan
from migsvc.demo.report import carried_text, migration_table, verdict_table
from migsvc.demo.verdict import compare


def test_equal_ends_after_the_hard_hops_are_good(make_final, migrations):
    verdict = compare(make_final(), make_final(), migrations, 3)
    assert verdict.good
    assert all(check.good for check in verdict.checks)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"console": b"1\n3\n"}, "console"),
        ({"console": b"1\n"}, "console"),
        ({"state_digest": "cd" * 32}, "machine state"),
        ({"retired_instructions": 1001}, "instructions"),
        ({"exit_code": 2}, "end"),
        ({"exit_code": 2}, "guest's own checks"),
        ({"stop_reason": "shutdown"}, "end"),
    ],
)
def test_any_difference_is_bad(make_final, migrations, change, check):
    verdict = compare(make_final(), make_final(**change), migrations, 3)
    assert not verdict.good
    assert check in [c.name for c in verdict.checks if not c.good]


def test_equal_but_empty_results_prove_nothing(make_final, migrations):
    nothing = make_final(state_digest="", console=b"")
    bad = [c.name for c in compare(nothing, nothing, migrations, 3).checks if not c.good]
    assert bad == ["console", "machine state"]


def test_the_hard_hops_must_have_been_made(make_final, make_migration):
    end = make_final()

    def bad(*made):
        return [c.name for c in compare(end, end, made, len(made)).checks if not c.good]

    in_smm, in_sti = make_migration(0, smm=True, smm_shadow="mov_ss"), make_migration(1, shadow="sti")
    assert bad(in_smm, in_sti) == []
    assert bad(in_sti) == ["inside SMM"]
    assert bad(in_smm) == ["STI shadow"]
    assert bad(make_migration(0, smm=True), in_sti) == ["inside SMM"]
    assert bad(in_smm, make_migration(1, smm=True, shadow="sti")) == ["STI shadow"]
    assert bad(in_smm, make_migration(1, shadow="mov_ss")) == ["STI shadow"]
    assert bad(in_smm, in_sti, make_migration(2, state="failed")) == ["migrations"]


def test_a_console_difference_is_told_by_its_place(make_final, migrations):
    verdict = compare(make_final(), make_final(console=b"1\n9\n"), migrations, 3)
    assert "differ from byte 2 on" in next(c.detail for c in verdict.checks if c.name == "console")


def test_every_moment_comes_up_and_the_guest_lives_long_enough():
    plan = Plan(hops=8)
    assert set(plan.moments) == set(MOMENTS)
    assert len(plan.moments) == 8
    assert Plan(hops=12).guest_params["ticks"] > plan.guest_params["ticks"]


class Host:
    def __init__(self, *chunks):
        self.chunks = list(chunks)

    def get(self, path, offset):
        start, data = self.chunks.pop(0) if self.chunks else (offset, b"")
        return {"offset": start, "next_offset": start + len(data), "data_base64": base64.b64encode(data).decode()}


def test_lines_carry_the_host_on_which_they_were_finished():
    follower = ConsoleFollower("vm")
    follower.begin_stay("host-a")
    assert follower.read(Host((0, b"line 1\nli"), (9, b"ne 2\nline"))) == 2
    follower.begin_stay("host-b", 26)
    assert follower.read(Host((18, b" 3\nline 4\n"))) == 2  # read on host-b, but line 3 was sent before the switch
    assert [(line.host, line.text) for line in follower.lines] == [
        ("host-a", "line 1"),
        ("host-a", "line 2"),
        ("host-a", "line 3"),
        ("host-b", "line 4"),
    ]
    assert bytes(follower.data) == b"line 1\nline 2\nline 3\nline 4\n"


@pytest.mark.parametrize("start", [0, 8, 100])
def test_a_gap_or_a_repetition_in_the_console_is_an_error(start):
    follower = ConsoleFollower("vm")
    follower.read(Host((0, b"line 1\n")))
    with pytest.raises(GapError, match="wanted 7"):
        follower.read(Host((start, b"x")))


def test_the_tables_show_phases_rounds_and_what_was_carried(make_final, migrations):
    out = io.StringIO()
    console = Console(file=out, width=110)
    console.print(migration_table(2, migrations[1]))
    text = out.getvalue()
    for wanted in ("Migration 2: host-b → host-a", "round 0", "phase precopy", "downtime"):
        assert wanted in text
    assert carried_text(migrations[1]["stats"]) == "SMM yes, shadow none, SMM shadow sti"
    console.print(verdict_table(compare(make_final(), make_final(exit_code=1), migrations, 3)))
    assert "NO" in out.getvalue()
