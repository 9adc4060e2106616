"""Fit the logarithm of a flow's density to that of the target, up to a constant."""

from __future__ import annotations

import torch
from torch import Tensor


def density_regression_loss(log_q: Tensor, log_target: Tensor, delta: float = 2.0) -> Tensor:
    """Return the Huber loss of log target - log q around its median, in nats.

    For independent draws. With frames of which -U/kT is known and the flow's own (detached)
    proposals, it asks each one for a number, not just for more likelihood: near the end the
    gradient's noise vanishes with the misfit, and own proposals are fresh in every step, so that
    the flow cannot overfit the frames. It is the log-variance loss of Richter et al., NeurIPS 2020,
    arXiv 2010.10436, with large misfits (atoms that collide) counted linearly.

    Parameters
    ----------
    log_q : Tensor [B]
        Log density of proposals or frames that do not depend on the flow's weights.
    log_target : Tensor [B]
        -U/kT of the same, plus any constant. Entries that are not finite are left out.
    delta : float
        Misfit in nats beyond which the loss grows linearly.

    Raises
    ------
    ValueError
        If nothing is finite.

    Examples
    --------
    >>> log_q = torch.tensor([0.0, 1.0, 2.0])
    >>> density_regression_loss(log_q, log_q + 7.0).item()
    0.0
    """
    finite = torch.isfinite(log_q) & torch.isfinite(log_target)
    if not bool(finite.any()):
        raise ValueError("no proposal or frame has a finite energy and density")
    misfit = log_target[finite] - log_q[finite]
    centred = misfit - misfit.detach().median()
    return torch.nn.functional.huber_loss(centred, torch.zeros_like(centred), delta=delta)
