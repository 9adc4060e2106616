"""Seeds made of the user's one: in OpenMM's range, and never its 0, which means "pick one"."""

import numpy as np

_MOST = 2**31 - 1


def shifted_seed(seed: int, shift: int) -> int:
    """Return a seed for the `shift`-th of several runs; no two of them have the same.

    Examples
    --------
    >>> shifted_seed(1, 2), shifted_seed(2**31 - 1, 2), shifted_seed(0, 0)
    (3, 2, 2147483647)
    """
    return (seed + shift - 1) % _MOST + 1


def spawned_seed(seed: int, index: int) -> int:
    """Return a seed for the `index`-th of several runs, drawn from both numbers.

    With `shifted_seed`, run 1 of seed 1 and run 0 of seed 2 are the same run.

    Examples
    --------
    >>> len({spawned_seed(seed, index) for seed in range(3) for index in range(3)})
    9
    """
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0]) % _MOST + 1
