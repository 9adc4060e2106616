"""Positions with another torsion."""

from __future__ import annotations

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation


def turned(
    positions: NDArray[np.float64], graph: nx.Graph, axis: tuple[int, int], angle: float
) -> NDArray[np.float64]:
    """Turn what lies beyond the bond `axis` of a bond graph by `angle` / rad."""
    without = graph.copy()
    without.remove_edge(*axis)
    beyond = sorted(nx.node_connected_component(without, axis[1]))
    direction = positions[axis[1]] - positions[axis[0]]
    rotation = Rotation.from_rotvec(angle * direction / np.linalg.norm(direction))
    result = positions.copy()
    result[beyond] = rotation.apply(positions[beyond] - positions[axis[1]]) + positions[axis[1]]
    return result
