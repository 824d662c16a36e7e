import pytest

from emulator.bridge import save_sections


@pytest.fixture
def machine_state():
    """Everything a machine is: sections, memory, console."""

    def of(machine):
        return save_sections(machine), bytes(machine.memory.ram), machine.console_bytes()

    return of
