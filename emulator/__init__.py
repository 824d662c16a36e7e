"""An x86 machine exact at every instruction boundary: CPU core, System Management Mode, devices, guests."""
