"""PROFILES: what the backends of a machine can hold, asked without an agent.

A backend that holds VMs (`BACKENDS`) says it itself; KVM is probed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from migsvc.backends import BACKENDS
from migsvc.backends.kvm_probe import kvm_profile
from migsvc.stream import STREAM_VERSIONS_READ
from schemas.compat import HostProfile
from schemas.compat.profile import BACKEND_KVM


def _kvm(name: str) -> HostProfile:
    return kvm_profile(name, stream_versions=STREAM_VERSIONS_READ)


PROFILES: Mapping[str, Callable[[str], HostProfile]] = {
    **{name: backend.profile for name, backend in BACKENDS.items()},
    BACKEND_KVM: _kvm,
}
"""Backend name -> function of the host's name. `_kvm` raises InputError where there is no usable /dev/kvm."""
