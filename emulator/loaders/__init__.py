"""Loaders for other people's images: bytes in, what to place in memory and where the vCPU begins out.

config = machine_config(load_multiboot(data, "kernel.elf", "arg", ram_bytes), ram_bytes, cpu_model="x86-64")

Every loader is a pure function of its bytes, which may be anybody's: what does not fit is a LoadError that says why.
"""

from .bios import load_bios
from .flat import FlatImage, load_flat
from .image import Loaded, LoadError, machine_config
from .multiboot import load_multiboot

__all__ = ["FlatImage", "LoadError", "Loaded", "load_bios", "load_flat", "load_multiboot", "machine_config"]
