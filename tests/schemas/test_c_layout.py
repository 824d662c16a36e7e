"""Sizes, offsets and numbers agree with the kernel's headers: compiled here where possible, else by the recorded table.

`python tests/schemas/test_c_layout.py` renews the table from the headers installed on this machine.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from schemas import uapi
from schemas.c_probe import NEWER, NOT_IN_HEADERS, all_structs, c_program, expected, parse_output
from schemas.kvm_numbers import KvmIoctl
from schemas.uapi.interface import ARGUMENTS

GOLDEN = Path(__file__).parents[1] / "data" / "uapi_layout.json"
NO_HEADERS = "kvm.h: No such file"
VERSION_HEADER = Path("/usr/include/linux/version.h")
PLAIN_ARGUMENTS = {
    "KVM_SET_IDENTITY_MAP_ADDR": "a u64 by its address",
    "KVM_X86_SETUP_MCE": "a u64 by its address",
    "KVM_X86_GET_MCE_CAP_SUPPORTED": "a u64 by its address",
    "KVM_SET_CPUID": "struct kvm_cpuid, superseded by kvm_cpuid2",
    "KVM_SET_SIGNAL_MASK": "struct kvm_signal_mask, of the thread and not of the guest",
    "KVM_GET_REG_LIST": "struct kvm_reg_list, not on x86",
}


def probe_headers(folder: Path) -> dict[str, int] | str:
    """Compile and run the program; a string says why it cannot be done here."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return "no C compiler on this machine"
    source, program = folder / "probe.c", folder / "probe"
    source.write_text(c_program())
    done = subprocess.run([compiler, "-o", str(program), str(source)], capture_output=True, text=True, check=False)
    if done.returncode != 0 and NO_HEADERS in done.stderr:
        return "no <linux/kvm.h> on this machine"
    assert done.returncode == 0, done.stderr
    return parse_output(subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    found = probe_headers(tmp_path_factory.mktemp("probe"))
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture(scope="module")
def version():
    """Return the kernel version of the installed headers."""
    if not VERSION_HEADER.exists():
        pytest.skip("no <linux/version.h> on this machine")
    code = int(re.search(r"LINUX_VERSION_CODE (\d+)", VERSION_HEADER.read_text())[1])
    return code >> 16, code >> 8 & 0xFF


def without_newer(found: dict[str, int]) -> dict[str, int]:
    """Return what headers must say that have `found`: names of newer kernels only if they have them."""
    return {name: number for name, number in expected().items() if name not in NEWER or name in found}


def test_every_size_offset_and_number_is_that_of_the_installed_headers(installed):
    assert installed == without_newer(installed)


@pytest.mark.parametrize("name", NEWER)
def test_a_name_of_a_newer_kernel_is_in_the_headers_from_that_kernel_on(name, installed, version):
    since = NEWER[name].since
    if name not in installed:
        assert version < since, f"{name} should be in the headers of Linux {version}"
        pytest.skip(f"{name} came with Linux {since[0]}.{since[1]}, these headers are of {version[0]}.{version[1]}")
    assert installed[name] == expected()[name]


def test_every_size_offset_and_number_is_that_of_the_recorded_headers():
    recorded = json.loads(GOLDEN.read_text())
    assert recorded == without_newer(recorded)


def test_names_of_newer_kernels_and_of_ours_are_names_of_the_tables():
    assert set(NEWER) <= set(expected())
    assert not {f"value {name}" for name in NOT_IN_HEADERS} & set(expected())
    assert all(NOT_IN_HEADERS.values())


def test_the_probe_covers_every_kernel_struct():
    kernel = {model.C_NAME for model in all_structs() if model.C_NAME and model.C_NAME.startswith("kvm_")}
    assert len(kernel) >= 55
    assert {name.split()[1] for name in expected() if name.startswith("sizeof")} == kernel


def test_every_file_of_structs_and_numbers_is_probed():
    folder = Path(uapi.__file__).parent
    text = "\n".join(path.read_text() for path in folder.glob("*.py"))
    tags = set(re.findall(r'C_NAME: ClassVar\[str \| None\] = "(kvm_\w+)"', text))
    assert {f"sizeof {tag}" for tag in tags} <= set(expected())
    numbers = set(re.findall(r"^(?:    )?(KVM_[A-Z0-9_]+) = ", text, re.MULTILINE)) - set(NOT_IN_HEADERS)
    assert {f"value {name}" for name in numbers} <= set(expected())


def test_structs_of_ours_are_marked_as_ours():
    names = {model.C_NAME for model in all_structs() if model.C_NAME}
    assert all(name.startswith(("kvm_", "migsvc_")) for name in names)
    assert "migsvc_serial" in names


@pytest.mark.parametrize("request_", KvmIoctl, ids=lambda ioctl: ioctl.name)
def test_an_ioctl_encodes_the_size_of_its_argument(request_):
    size = request_ >> 16 & 0x3FFF
    by_value = request_ in (KvmIoctl.KVM_GET_TSC_KHZ, KvmIoctl.KVM_SET_TSC_KHZ)
    if size and request_.name not in PLAIN_ARGUMENTS:
        assert size == ARGUMENTS[request_].SIZE
    else:
        assert (request_ in ARGUMENTS) == by_value


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        result = probe_headers(Path(scratch))
    if isinstance(result, str):
        sys.exit(result)
    GOLDEN.write_text(json.dumps(result, indent=0) + "\n")
