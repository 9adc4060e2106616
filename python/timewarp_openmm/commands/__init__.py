"""The command line's commands, one module each; heavy imports happen inside the functions."""
