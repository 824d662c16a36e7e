"""`import schemas` loads nothing; its names are loaded when they are used; what is listed three times is the same."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import schemas

SOURCE = ast.parse(Path(schemas.__file__).read_text())


def declared_for_type_checkers():
    block = next(node for node in SOURCE.body if isinstance(node, ast.If))
    return {alias.name: node.module for node in block.body for alias in node.names}


@pytest.mark.parametrize("name", schemas.__all__)
def test_every_public_name_is_there(name):
    assert getattr(schemas, name) is not None
    assert name in dir(schemas)


def test_type_checkers_are_told_the_same_names_and_homes():
    assert declared_for_type_checkers() == schemas._HOMES
    assert sorted(schemas.__all__) == sorted(schemas._HOMES)


def test_an_unknown_name_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = schemas.Nonsense


def loaded_by(code):
    """Return the modules that a fresh interpreter has loaded after this code."""
    program = f"import sys; {code}; print('\\n'.join(sys.modules))"
    return set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )


def test_importing_the_package_loads_neither_pydantic_nor_a_struct():
    loaded = loaded_by("import schemas")
    assert not {name for name in loaded if name.startswith(("pydantic", "schemas.", "msgpack"))}


def test_the_state_loads_no_rules_and_builds_no_validators():
    loaded = loaded_by("import schemas; schemas.VcpuState")
    assert "schemas.state" in loaded
    assert not {name for name in loaded if name.startswith(("schemas.rules", "schemas.compat", "schemas.names"))}
    # Pydantic loads its plug-ins when it builds the first validator.
    assert "pydantic.plugin._loader" not in loaded
