"""Where pieces of work are run: in this process, in processes of this machine, on a cluster."""
