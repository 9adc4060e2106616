"""``timewarp-openmm benchmark``: effective samples per second, beside molecular dynamics."""
