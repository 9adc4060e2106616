"""Files of conformations: written, read, and made into pairs for training."""
