"""`python -m migsvc` is the console script `migsvc`."""

from __future__ import annotations

from migsvc.cli import main

if __name__ == "__main__":
    main()
