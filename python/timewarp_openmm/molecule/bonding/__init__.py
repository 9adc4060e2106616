"""What a molecule's bonds are: which turn, and which atoms keep how their neighbours lie.

`perceive` is the one function that charts, exploring and the analysis ask.
"""

from .base import Bond, Bonding
from .perceive import perceive

__all__ = ["Bond", "Bonding", "perceive"]
