"""Compile the fast tier into the cache: `python -m emulator.fast`."""

from .compiled import cache_folder, compiled

compiled()
print(cache_folder())
