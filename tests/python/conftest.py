"""Fixtures that several subjects share."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

#: The platforms that the integrator has kernels for; its tests run on each of them.
PLATFORMS = ("Reference", "CPU")


@pytest.fixture(params=PLATFORMS)
def platform(request: pytest.FixtureRequest) -> str:
    """The name of each platform in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Models for the particles in wells: their paths by name (see chains.write_models)."""
    from chains import write_models

    return write_models(tmp_path_factory.mktemp("models"))
