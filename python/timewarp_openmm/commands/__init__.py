"""What the subcommands of ``timewarp-openmm`` do; cli.py gives them their options."""
