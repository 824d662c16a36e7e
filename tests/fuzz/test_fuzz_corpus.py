"""The fuzz corpus: every seed and every former finding, as they are and changed at random, through its target.

Targets raise on whatever is no clean refusal. The long campaign with coverage guidance is `make fuzz`.
"""

import importlib.util
import random
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CORPUS = HERE.parent / "data" / "fuzz"


def load(name):
    spec = importlib.util.spec_from_file_location(f"fuzz_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


TARGETS = load("targets").TARGETS
FILES = sorted(path for path in CORPUS.glob("*/*") if path.is_file())
CHANGES = 40


def changed(data, rng):
    """A few octets set, cut, repeated or inserted."""
    made = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(made) + 1)
        match rng.randrange(4):
            case 0:
                made[at : at + 1] = bytes([rng.choice((0, 0x7F, 0x80, 0xC0, 0xFF, rng.randrange(256)))])
            case 1:
                del made[at : at + rng.choice((1, 4, 64, len(made)))]
            case 2:
                made[at:at] = made[at : at + rng.choice((1, 16, 256))]
            case 3:
                made[at:at] = rng.randbytes(rng.choice((1, 2, 9)))
    return bytes(made)


def test_every_target_has_seeds_and_every_folder_a_target():
    assert {path.parent.name for path in FILES} == set(TARGETS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_no_seed_and_no_change_of_it_does_harm(path):
    run, rng = TARGETS[path.parent.name].run, random.Random(path.name)
    data = path.read_bytes()
    run(data)
    for _ in range(CHANGES):
        run(changed(data, rng))


@pytest.mark.parametrize("name", TARGETS)
def test_empty_and_short_inputs_do_no_harm(name):
    for data in (b"", b"\x00", b"\xff", b"{}", b"[]", b"null", b"\x80", b"\x90", b"\xc0", b"\xef\xbb\xbf{}"):
        TARGETS[name].run(data)
