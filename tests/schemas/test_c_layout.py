"""Sizes, offsets and numbers agree with the kernel's headers: compiled here where possible, else by the recorded table.

`python tests/schemas/test_c_layout.py` renews the table from the headers installed on this machine.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from schemas.c_probe import c_program, expected, parse_output
from schemas.uapi import structs

GOLDEN = Path(__file__).parents[1] / "data" / "uapi_layout.json"
NO_HEADERS = "kvm.h: No such file"


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


def test_every_size_offset_and_number_is_that_of_the_installed_headers(tmp_path):
    found = probe_headers(tmp_path)
    if isinstance(found, str):
        pytest.skip(found)
    assert found == expected()


def test_every_size_offset_and_number_is_that_of_the_recorded_headers():
    assert json.loads(GOLDEN.read_text()) == expected()


def test_the_probe_covers_every_kernel_struct():
    kernel = {model.C_NAME for model in structs() if model.C_NAME and model.C_NAME.startswith("kvm_")}
    assert len(kernel) >= 20
    assert {name.split()[1] for name in expected() if name.startswith("sizeof")} == kernel


def test_structs_of_ours_are_marked_as_ours():
    names = {model.C_NAME for model in structs() if model.C_NAME}
    assert all(name.startswith(("kvm_", "migsvc_")) for name in names)
    assert "migsvc_serial" in names


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        result = probe_headers(Path(scratch))
    if isinstance(result, str):
        sys.exit(result)
    GOLDEN.write_text(json.dumps(result, indent=0) + "\n")
