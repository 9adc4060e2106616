"""From a structure to a model, in stages that can be interrupted."""
