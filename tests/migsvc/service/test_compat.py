"""Compatibility as a host sees it: its VMs, itself and its peers, with real agents."""

import pytest

from migsvc.errors import NotFoundError, PeerError
from migsvc.service.compat import CompatOperand, HostOperand
from migsvc.transport.hostinfo import HostInfo
from schemas.compat import Verdict

HERE, PEER = CompatOperand(this_host=True), CompatOperand(peer="b")


def test_a_vm_is_checked_against_a_peer_and_a_baseline_is_made_of_both(lab, run, steps):
    async def work():
        async with lab.pair(b={"max_ram_bytes": 1 << 26}) as (a, _):
            await steps.ticker(a, start=False)
            on_peer = await a.compat.check(CompatOperand(vm="vm"), PEER)
            assert (on_peer.verdict, on_peer.findings) == (Verdict.EXACT, ())
            assert (await a.compat.check(HERE, CompatOperand(vm="vm"))).verdict is Verdict.EXACT
            assert {finding.rule for finding in (await a.compat.check(HERE, PEER)).findings} == {"CMP-004"}
            made = await a.compat.baseline([HostOperand(this_host=True), HostOperand(peer="b")])
            assert made.profile.max_ram_bytes == 1 << 26
            assert [host.verdict for host in made.hosts] == [Verdict.EXACT, Verdict.EXACT]
            assert [{finding.rule for finding in host.gives_up} for host in made.hosts] == [{"CMP-004"}, set()]

    run(work())


def test_what_cannot_be_found_or_read_is_told(lab, run, monkeypatch):
    async def work():
        async with lab.pair() as (a, _):
            for operand in (CompatOperand(vm="nobody"), CompatOperand(peer="nobody")):
                with pytest.raises(NotFoundError):
                    await a.compat.check(operand, HERE)

            async def nonsense(url, token):
                return HostInfo("f" * 32, "b", "127.0.0.1:1", {"name": "b"})

            monkeypatch.setattr("migsvc.service.peers.fetch_host", nonsense)
            with pytest.raises(PeerError, match="profile that cannot be read"):
                await a.compat.check(HERE, PEER)

    run(work())
