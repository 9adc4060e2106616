"""Dependencies point one way, in imports at the top of a file and within functions alike."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import networkx
import pytest

from timewarp_openmm._libraries import find_build

PACKAGE = "timewarp_openmm"
ROOT = Path(__file__).parents[3] / "python" / PACKAGE
#: A module imports none of a later layer, neither itself nor through what it imports.
LAYERS = ("molecule", "flows", "losses", "training", "workflows", "commands")
#: What sampling a model is made of, and what it must do without.
SAMPLING = ("integrator", "contract", "bundled", "commands.sample", "simulation", "energies")
NOT_FOR_SAMPLING = ("losses", "training", "workflows")
#: What is true of molecules and Systems, whatever proposes their conformations.
WITHOUT_FLOWS = ("energies", "simulation", "trajectories")


def module_of(path: Path, root: Path) -> str:
    """Return a file's module, of the package that `root` is the folder of."""
    parts = (root.name, *path.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes but those that only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield other
                yield from runtime_nodes(other)
            continue
        yield node
        yield from runtime_nodes(node)


def imported_names(path: Path, module: str) -> Iterator[str]:
    """Yield the full names of all that a file imports: modules, and what it takes from them."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in runtime_nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = ".".join([*(above if node.level else ()), *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def modules_run(name: str, modules: set[str]) -> Iterator[str]:
    """Yield the modules that importing a name runs: its own and the packages around it."""
    while name:
        if name in modules:
            yield name
        name = name.rpartition(".")[0]


def import_graph(root: Path) -> networkx.DiGraph:
    """Return which module imports which; a package around a module's own is not counted."""
    paths = {module_of(path, root): path for path in sorted(root.rglob("*.py"))}
    graph = networkx.DiGraph()
    graph.add_nodes_from(paths)
    for module, path in paths.items():
        for name in imported_names(path, module):
            nearest = True
            for found in modules_run(name, set(paths)):
                around = f"{module}.".startswith(f"{found}.")
                # Around it, but asked for what it holds itself: `from .. import __version__`.
                asked = nearest and found != module
                if asked or not around:
                    graph.add_edge(module, found)
                nearest = False
    return graph


@pytest.fixture(scope="module")
def graph() -> networkx.DiGraph:
    return import_graph(ROOT)


def within(module: str, part: str) -> bool:
    return f"{module}.".startswith(f"{PACKAGE}.{part}.")


def paths_into(graph: networkx.DiGraph, sources: tuple[str, ...], targets: tuple[str, ...]) -> list:
    """Return how parts of the package come to import others, as chains of modules."""
    found = []
    for module in graph:
        if not any(within(module, part) for part in sources):
            continue
        for target, path in networkx.single_source_shortest_path(graph, module).items():
            if any(within(target, part) for part in targets):
                found.append(" > ".join(path))
    return found


def test_no_module_imports_itself_by_way_of_others(graph: networkx.DiGraph) -> None:
    assert graph.number_of_edges() > 200
    assert [sorted(c) for c in networkx.strongly_connected_components(graph) if len(c) > 1] == []


@pytest.mark.parametrize("number", range(len(LAYERS) - 1), ids=LAYERS[:-1])
def test_layers_import_downwards(graph: networkx.DiGraph, number: int) -> None:
    assert paths_into(graph, LAYERS[number : number + 1], LAYERS[number + 1 :]) == []


def test_sampling_needs_nothing_of_training(graph: networkx.DiGraph) -> None:
    assert paths_into(graph, SAMPLING, NOT_FOR_SAMPLING) == []


def test_analysis_needs_nothing_of_training(graph: networkx.DiGraph) -> None:
    assert paths_into(graph, ("analysis",), NOT_FOR_SAMPLING) == []


def test_systems_and_trajectories_know_no_flow(graph: networkx.DiGraph) -> None:
    assert paths_into(graph, WITHOUT_FLOWS, ("flows",)) == []


def test_a_cycle_and_a_way_up_are_found(tmp_path: Path) -> None:
    """In whatever way they are imported."""
    files = {
        "__init__.py": "__version__ = '1'\n",
        "molecule/__init__.py": "",
        "molecule/graph.py": "def f():\n    from ..training import loop\n",
        "training/__init__.py": "",
        "training/loop.py": "from .. import __version__\nimport timewarp_openmm.molecule.graph\n",
        "flows/__init__.py": "from .base import Flow\n",
        "flows/base.py": "if TYPE_CHECKING:\n    from ..training.loop import x\n",
    }
    root = tmp_path / PACKAGE
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True, parents=True)
        (root / name).write_text(text)
    graph = import_graph(root)
    cycles = [c for c in networkx.strongly_connected_components(graph) if len(c) > 1]
    assert cycles == [{f"{PACKAGE}.molecule.graph", f"{PACKAGE}.training.loop"}]
    ways = paths_into(graph, ("molecule",), ("training",))
    assert f"{PACKAGE}.molecule.graph > {PACKAGE}.training.loop" in ways
    assert paths_into(graph, ("flows",), ("training",)) == []


def every_module_of(*parts: str) -> list[str]:
    """Return the modules of some folders of the package."""
    return [module_of(path, ROOT) for part in parts for path in sorted((ROOT / part).rglob("*.py"))]


def named(*parts: str) -> tuple[str, ...]:
    return tuple(f"{PACKAGE}.{part}" for part in parts)


COMPILED = find_build().__name__.removeprefix(f"{PACKAGE}.")
SAMPLING_COMMAND = named("cli", "commands.sample")
PIECES_OF_DYNAMICS = named(
    "simulation.walks", "simulation.trajectory_pieces", "simulation.short_runs"
)


@pytest.mark.parametrize(
    ("imported", "forbidden"),
    [
        (
            [*SAMPLING_COMMAND, *named("simulation.systems", "contract")],
            ("lightning", "torch", "mdtraj", *named("training")),
        ),
        (
            SAMPLING_COMMAND,
            ("deeptime", "ot", "pymbar", "arviz", "jinja2", "scipy", *named("analysis", "report")),
        ),
        (
            every_module_of("analysis", "report"),
            ("lightning", "torch", *named("training", COMPILED)),
        ),
        (
            [*named("workers.opening", "workers.jobs", "energies.workers"), *PIECES_OF_DYNAMICS],
            ("distributed", "torch", "mdtraj", "rdkit", *named(COMPILED)),
        ),
    ],
    ids=["help and sampling", "sampling without analysis", "analysis", "workers of this machine"],
)
def test_heavy_libraries_are_left_alone(
    imported: Sequence[str], forbidden: tuple[str, ...]
) -> None:
    """With what libraries import in their turn, which only a process of its own shows."""
    code = f"import json, sys, {', '.join(imported)}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    assert set(imported) <= set(loaded)
    assert [m for m in loaded if f"{m}.".startswith(tuple(f"{f}." for f in forbidden))] == []
