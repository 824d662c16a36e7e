"""migsvc: snapshots, live-migrates and restores KVM x86 virtual CPUs between hosts."""

__version__ = "0.1.0"
