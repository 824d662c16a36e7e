"""KvmDevice: file descriptors of KVM and the ioctls that ask them something."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

from migsvc.errors import InputError
from schemas.kvm_numbers import KvmIoctl
from schemas.uapi.cpuid2 import KVM_MAX_CPUID_ENTRIES, KvmCpuid2

KVM_GET_SUPPORTED_HV_CPUID = 0xC008AEC1
"""Source: Linux 6.12 include/uapi/linux/kvm.h; of a vCPU, and of the device since 5.11."""

_MAX_MSRS = 1024
_PARAMETERS = Path("/sys/module/kvm/parameters")

_HINTS = {
    errno.ENOENT: "is the module kvm_intel or kvm_amd loaded, and virtualisation enabled in the firmware? in a "
    "container, pass the device in",
    errno.EACCES: "run as root, or as a member of the device's group (often kvm)",
    errno.EPERM: "run as root, or as a member of the device's group (often kvm)",
    errno.ENODEV: "the processor has no virtualisation, or the firmware switches it off",
    errno.ENXIO: "the processor has no virtualisation, or the firmware switches it off",
}


class KvmDevice:
    """/dev/kvm, a VM or a vCPU: a file descriptor that is closed at the end of its `with`."""

    def __init__(self, fd: int) -> None:
        """Own the descriptor."""
        self._fd = fd

    @classmethod
    def open(cls, device: str) -> Self:
        """Open the device.

        Raises:
            InputError: it does not exist or may not be opened.
        """
        try:
            found = cls(os.open(device, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            hint = _HINTS.get(error.errno or 0, "")
            raise InputError(f"{device}: {error.strerror}", hint=hint) from error
        try:
            found.call(KvmIoctl.KVM_GET_API_VERSION)
        except OSError as error:
            os.close(found._fd)
            raise InputError(f"{device} is not KVM: {error.strerror}", hint="give the path of /dev/kvm") from error
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._fd)

    def call(self, request: int, argument: int = 0) -> int:
        """Return what an ioctl with a number returns.

        Raises:
            OSError: it fails.
        """
        return fcntl.ioctl(self._fd, request, argument)

    def call_or(self, request: int, default: int) -> int:
        """Return what an ioctl returns, or `default` if it fails."""
        try:
            return self.call(request)
        except OSError:
            return default

    def works(self, request: int) -> bool:
        """Return whether an ioctl succeeds."""
        return self.call_or(request, -1) >= 0

    def create(self, request: int) -> KvmDevice:
        """Return the VM or the vCPU that an ioctl makes.

        Raises:
            InputError: it fails.
        """
        try:
            return KvmDevice(self.call(request))
        except OSError as error:
            hint = "another hypervisor may hold the processor" if error.errno == errno.EBUSY else ""
            raise InputError(f"{KvmIoctl(request).name}: {error.strerror}", hint=hint) from error

    def check(self, capability: int) -> int:
        """Return KVM_CHECK_EXTENSION, 0 where it is not known."""
        try:
            return max(self.call(KvmIoctl.KVM_CHECK_EXTENSION, capability), 0)
        except OSError:
            return 0

    def exchange(self, request: int, data: bytes) -> bytes:
        """Return the struct that an ioctl leaves where `data` was.

        Raises:
            OSError: it fails.
        """
        buffer = bytearray(data)
        fcntl.ioctl(self._fd, request, buffer)
        return bytes(buffer)

    def read(self, request: int, size: int) -> bytes:
        """Return a struct, zeroes if KVM refuses."""
        try:
            return self.exchange(request, bytes(size))
        except OSError:
            return bytes(size)

    def u64(self, request: int) -> int | None:
        """Return a number that an ioctl writes, or None if it fails."""
        try:
            return int.from_bytes(self.exchange(request, bytes(8)), "little")
        except OSError:
            return None

    def cpuid(self, request: int) -> KvmCpuid2:
        """Return a CPUID table.

        Raises:
            InputError: KVM refuses.
        """
        head = struct.pack("<II", KVM_MAX_CPUID_ENTRIES, 0)
        try:
            raw = self.exchange(request, head + bytes(40 * KVM_MAX_CPUID_ENTRIES))
        except OSError as error:
            raise InputError(f"ioctl {request:#x} for CPUID: {error.strerror}") from error
        (count,) = struct.unpack_from("<I", raw)
        return KvmCpuid2.unpack(raw[: 8 + 40 * count])

    def cpuid_or_none(self, request: int) -> KvmCpuid2 | None:
        """Return a CPUID table, or None if KVM has none."""
        try:
            return self.cpuid(request)
        except InputError:
            return None

    def indices(self, request: int) -> tuple[int, ...]:
        """Return a list of MSRs, empty if KVM has none."""
        try:
            raw = self.exchange(request, struct.pack("<I", _MAX_MSRS) + bytes(4 * _MAX_MSRS))
        except OSError:
            return ()
        (count,) = struct.unpack_from("<I", raw)
        return struct.unpack_from(f"<{min(count, _MAX_MSRS)}I", raw, 4)

    def msr(self, index: int) -> int | None:
        """Return an MSR (of the device: a feature MSR), or None if it is not read."""
        request = struct.pack("<IIIIQ", 1, 0, index, 0, 0)
        try:
            buffer = bytearray(request)
            count = fcntl.ioctl(self._fd, KvmIoctl.KVM_GET_MSRS, buffer)
        except OSError:
            return None
        return int.from_bytes(buffer[16:24], "little") if count == 1 else None

    def attribute(self, attribute: int) -> int | None:
        """Return a number of the system's attributes (KVM_CAP_SYS_ATTRIBUTES), or None if there is none."""
        value = bytearray(8)
        address = ctypes.addressof(ctypes.c_char.from_buffer(value))
        try:
            self.exchange(KvmIoctl.KVM_GET_DEVICE_ATTR, struct.pack("<IIQQ", 0, 0, attribute, address))
        except OSError:
            return None
        return int.from_bytes(value, "little")

    def has_attribute(self, group: int, attribute: int) -> bool:
        """Return whether KVM_HAS_DEVICE_ATTR knows an attribute."""
        try:
            self.exchange(KvmIoctl.KVM_HAS_DEVICE_ATTR, struct.pack("<IIQQ", 0, group, attribute, 0))
        except OSError:
            return False
        return True


def read_parameter(name: str) -> int | None:
    """Return a number among the parameters of the module kvm, or None if it cannot be read."""
    try:
        return int((_PARAMETERS / name).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
