"""System Management Mode: the save areas, entry and RSM."""
