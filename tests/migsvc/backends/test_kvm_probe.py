"""The probe of /dev/kvm: what it says where there is one, and what it says where there is none."""

import errno
import os

import pytest

from migsvc.backends import kvm_device, kvm_probe
from migsvc.backends.profiles import PROFILES
from migsvc.errors import InputError
from schemas.compat import HostProfile, Verdict, check_compat
from schemas.kvm_numbers import KvmIoctl


def usable():
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not usable(), reason="no /dev/kvm, or no right to open it")
def test_the_kvm_of_this_machine_is_asked():
    profile = kvm_probe.kvm_profile("here", stream_versions=(1,))
    assert (profile.name, profile.backends, profile.is_kvm) == ("here", ("kvm",), True)
    assert profile.kernel_release == os.uname().release
    assert profile.event_flags & 0x0F == 0x0F
    assert not profile.event_flags & 0x40
    assert profile.cpuid.leaf(0) is not None
    assert 0x10 in profile.msr_indices
    assert 0xC0000080 in profile.msrs_unlisted
    assert profile.kvm_capabilities["KVM_CAP_USER_MEMORY"] == 1
    assert {"regs", "events", "xsave"} <= set(profile.vcpu_sections)
    assert not {"serial", "smi_port", "machine"} & set(profile.vm_sections)
    assert HostProfile.model_validate_json(profile.model_dump_json()) == profile
    assert check_compat(profile, profile).verdict is Verdict.EXACT


@pytest.mark.parametrize(
    ("code", "hint"),
    [(errno.ENOENT, "module kvm"), (errno.EACCES, "as root"), (errno.EPERM, "group"), (errno.ENODEV, "firmware")],
)
def test_a_device_that_cannot_be_opened_is_told_with_what_to_do(monkeypatch, code, hint):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(kvm_device.os, "open", refuse)
    with pytest.raises(InputError) as caught:
        kvm_probe.kvm_profile("here")
    assert "/dev/kvm" in caught.value.detail
    assert hint in caught.value.hint


def test_a_device_that_is_not_kvm_is_told():
    with pytest.raises(InputError, match="/dev/null is not KVM"):
        kvm_probe.kvm_profile("here", "/dev/null")


class FakeKvm:
    """An ioctl that answers as a small old kernel does: few capabilities, no irqchip, no feature MSRs, no SMM."""

    def __init__(self, caps, refuses=()):
        self.caps, self.refuses = caps, refuses

    def __call__(self, fd, request, argument=0):
        if request in self.refuses:
            raise OSError(errno.EINVAL, "Invalid argument")
        if request == KvmIoctl.KVM_GET_API_VERSION:
            return 12
        if request == KvmIoctl.KVM_CHECK_EXTENSION:
            return self.caps.get(argument, 0)
        if request in (KvmIoctl.KVM_CREATE_VM, KvmIoctl.KVM_CREATE_VCPU):
            return os.open("/dev/null", os.O_RDONLY)
        if request == KvmIoctl.KVM_GET_TSC_KHZ:
            return 2_000_000
        if request in (KvmIoctl.KVM_GET_MSR_INDEX_LIST, KvmIoctl.KVM_GET_SUPPORTED_CPUID):
            argument[0:4] = bytes(4)
            return 0
        if request == KvmIoctl.KVM_GET_MSRS:
            return int(argument[8:12] == (0xC0000080).to_bytes(4, "little"))
        if isinstance(argument, bytearray):
            return 0
        raise OSError(errno.EINVAL, "Invalid argument")


@pytest.fixture
def old_kernel(monkeypatch):
    def install(caps, refuses=(), release="5.4.0-1-amd64"):
        monkeypatch.setattr(kvm_device.fcntl, "ioctl", FakeKvm(caps, refuses))
        monkeypatch.setattr(kvm_probe.os, "uname", lambda: type("uname", (), {"release": release}))
        return kvm_probe.kvm_profile("old", "/dev/null")

    return install


OLD_REFUSES = (
    KvmIoctl.KVM_CREATE_IRQCHIP,
    KvmIoctl.KVM_GET_MSR_FEATURE_INDEX_LIST,
    KvmIoctl.KVM_HAS_DEVICE_ATTR,
    KvmIoctl.KVM_GET_DEVICE_ATTR,
    KvmIoctl.KVM_X86_GET_MCE_CAP_SUPPORTED,
    kvm_device.KVM_GET_SUPPORTED_HV_CPUID,
)


def test_what_a_kernel_lacks_is_said_and_no_failure(old_kernel):
    profile = old_kernel({9: 4, 10: 32}, OLD_REFUSES)
    assert (profile.smm, profile.smm_carriers, profile.event_flags) == (False, (), 0x0F)
    assert (profile.max_vcpus, profile.memory.slots, profile.memory.address_spaces) == (4, 32, 1)
    assert (profile.lapic.in_kernel, profile.lapic.tsc_deadline) == (False, False)
    assert (profile.nested.state_bytes, profile.hyperv_cpuid, profile.mce_capabilities) == (0, None, None)
    assert (profile.tsc_khz_min, profile.tsc_khz_max, profile.tsc_scaling) == (2_000_000, 2_000_000, False)
    assert "tsc_offset" not in profile.vcpu_sections
    assert "xsave" not in profile.vcpu_sections
    assert profile.msrs_unlisted == (0xC0000080,)
    assert profile.mxcsr_mask == 0xFFBF


@pytest.mark.parametrize(
    ("release", "carriers"), [("6.1.192", ()), ("6.2.0", ("smram",)), ("6.12.107-amd64", ("smram",))]
)
def test_the_save_area_carries_the_shadow_from_linux_6_2_on(old_kernel, release, carriers):
    profile = old_kernel({117: 1, 118: 2, 164: 1, 218: 1, 60: 1}, OLD_REFUSES, release)
    assert (profile.smm, profile.smm_carriers, profile.memory.address_spaces) == (True, carriers, 2)
    assert profile.event_flags == 0x3F
    assert (profile.tsc_khz_min, profile.tsc_khz_max, profile.tsc_scaling) == (1, 0x7FFFFFFF, True)


def test_another_version_of_the_api_is_refused(monkeypatch):
    monkeypatch.setattr(kvm_device.fcntl, "ioctl", lambda *_: 13)
    with pytest.raises(InputError, match="version 13"):
        kvm_probe.kvm_profile("here", "/dev/null")


def test_every_backend_has_a_profile():
    assert set(PROFILES) == {"emulator", "kvm"}
    assert PROFILES["emulator"]("x").name == "x"
