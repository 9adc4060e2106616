"""Fitting a flow: configuration, losses, data augmentation and the training loop."""
