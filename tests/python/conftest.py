"""Fixtures that several subjects share."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from timewarp_openmm.workers.base import Workers

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CL_CONFIG_CPU_TBB_NUM_WORKERS", "1")


def keep_compiled_kernels() -> None:
    """Have the kernels of OpenCL Contexts compiled once, here and in processes that tests start.

    See tests/cpp/OpenCLProgramCache.cpp, which is built with the C++ tests; without it, tests only
    take longer.
    """
    built = Path(__file__).parents[2] / "build" / "plugin" / "tests" / "cpp"
    library = built / "libopencl_program_cache.so"
    if library.exists():
        os.environ.setdefault("TIMEWARP_OPENCL_CACHE", str(built / "opencl-programs"))
        os.environ["LD_PRELOAD"] = str(library)
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def platforms_to_test() -> tuple[str, ...]:
    """Return those in TIMEWARP_TEST_PLATFORMS (comma-separated), or all that need no GPU."""
    named = os.environ.get("TIMEWARP_TEST_PLATFORMS")
    if named:
        return tuple(named.split(","))
    from timewarp_openmm._opencl import has_platform, provide_opencl

    provide_opencl()
    return ("Reference", "CPU", "OpenCL") if has_platform("OpenCL") else ("Reference", "CPU")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Return the address of a scheduler with two workers of one thread each."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def cluster(address: str) -> Iterator[Workers]:
    from timewarp_openmm.workers.cluster import open_cluster

    with open_cluster(address) as workers:
        yield workers


#: Files that take half a minute and more. They begin, so that none is left to run alone at the end.
LONGEST = (
    "workflows/test_fit.py",
    "workflows/test_fit_in_place.py",
    "integrator/test_golden_chains.py",
    "report/test_report.py",
    "flows/test_every_flow.py",
    "integrator/test_faults.py",
    "benchmark/test_benchmark.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    first = {here / file: place for place, file in enumerate(LONGEST)}
    missing = [str(file) for file in first if not file.is_file()]
    if missing:
        raise pytest.UsageError(f"LONGEST names files that are not there: {', '.join(missing)}")
    items.sort(key=lambda item: first.get(item.path, len(LONGEST)))


keep_compiled_kernels()
#: The platforms that the integrator has kernels for; its tests run on each of them.
PLATFORMS = platforms_to_test()


@pytest.fixture(params=PLATFORMS)
def platform(request: pytest.FixtureRequest) -> str:
    """The name of each platform in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Models for the particles in wells: their paths by name (see chains.write_models)."""
    from chains import write_models

    return write_models(tmp_path_factory.mktemp("models"))
