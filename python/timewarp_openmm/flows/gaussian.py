"""The density of the noise."""

import math

from torch import Tensor


def log_normal(deviates: Tensor) -> Tensor:
    """Return log N(deviates; 0, I), summed in float64.

    Parameters
    ----------
    deviates : Tensor [B, D]

    Returns
    -------
    Tensor [B], float64

    Examples
    --------
    >>> import torch
    >>> log_normal(torch.zeros(1, 2))
    tensor([-1.8379], dtype=torch.float64)
    """
    squares = deviates.double().square().sum(dim=1)
    return -0.5 * (squares + deviates.size(1) * math.log(2.0 * math.pi))
