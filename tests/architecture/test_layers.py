"""The layers and the packaging hold."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_import_contracts_hold():
    script = Path(sys.executable).with_name("lint-imports")
    if not script.exists():
        pytest.skip("import-linter is not installed beside this Python")
    done = subprocess.run([str(script), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", ["migsvc", "schemas", "emulator"])
def test_each_package_is_the_project_s_own(package):
    # The names are generic: another distribution, or a folder in the working directory, could shadow ours silently.
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    assert Path(spec.submodule_search_locations[0]).resolve() == (ROOT / package).resolve()


@pytest.mark.parametrize("folder", ["tests", "docker", "docs"])
def test_folders_that_are_no_packages_have_no_init(folder):
    assert not (ROOT / folder / "__init__.py").exists()
