"""Ends of chains of amino acids: whether they are charged, which their bonds say."""

from __future__ import annotations

from collections import Counter

import networkx as nx

#: What Amber puts before the names of the first and the last residue of a chain with charged ends,
#: such as NALA and CALA.
FIRST, LAST = "N", "C"
#: States of protonation that Amber knows inside of chains only.
INNER_ONLY = frozenset({"ASH", "CYM", "GLH", "LYN", "TYM"})


def hydrogens_of_end(graph: nx.Graph, nitrogen: int) -> int | None:
    """Return how many hydrogens the first nitrogen of a chain has; None if it is bonded to more
    than its alpha carbon and these.

    Parameters
    ----------
    graph : networkx.Graph
        Bonds of the whole topology; nodes carry `element`.
    nitrogen : int
    """
    elements = Counter(graph.nodes[i]["element"] for i in graph[nitrogen])
    hydrogens = elements.pop("H", 0)
    return hydrogens if elements == {"C": 1} else None


def oxygens_of_end(graph: nx.Graph, carbon: int) -> list[int] | None:
    """Return of the two oxygens on the last carbon of a chain how many hydrogens each has; None if
    it is bonded to anything else than them and its alpha carbon, or they are to anything else.
    """
    others = [i for i in graph[carbon] if graph.nodes[i]["element"] == "O"]
    if len(others) != 2 or graph.degree[carbon] != 3:
        return None
    beyond = [[graph.nodes[k]["element"] for k in graph[i] if k != carbon] for i in others]
    if any(element != "H" for elements in beyond for element in elements):
        return None
    return sorted(len(elements) for elements in beyond)


def begins_charged(graph: nx.Graph, nitrogen: int) -> bool:
    """Tell NH3+ from other beginnings of a chain."""
    return hydrogens_of_end(graph, nitrogen) == 3


def ends_charged(graph: nx.Graph, carbon: int) -> bool:
    """Tell COO- from other ends of a chain."""
    return oxygens_of_end(graph, carbon) == [0, 0]
