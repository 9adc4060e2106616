"""Loading the compiled plugin."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from reference_models import write_all

import timewarp_openmm
from timewarp_openmm._libraries import load_plugin


def test_the_package_may_lie_in_another_folder_than_torch_and_openmm(tmp_path: Path) -> None:
    """As after pip install --user, with torch installed for all."""
    installed = Path(load_plugin().__file__).parent
    copy = tmp_path / "elsewhere" / "timewarp_openmm"
    shutil.copytree(
        Path(timewarp_openmm.__file__).parent, copy, ignore=shutil.ignore_patterns("pretrained")
    )
    for pattern in ("*.so", "_build_versions.py"):
        for file in installed.glob(pattern):
            shutil.copy(file, copy)
    code = (
        "import timewarp_openmm as t; "
        f"t.TimewarpMCMCIntegrator({str(tmp_path / 'identity_4.pt')!r}); print(t.__file__)"
    )
    environment = {**os.environ, "PYTHONPATH": str(copy.parent)}
    environment.pop("LD_LIBRARY_PATH", None)
    # An editable install's finder comes before PYTHONPATH; -S leaves it out, with site-packages.
    packages = [path for path in sys.path if path.endswith("site-packages")]
    code = f"import sys; sys.path += {packages!r}; {code}"
    write_all(tmp_path)
    result = subprocess.run(
        [sys.executable, "-S", "-c", code], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(str(copy.parent))
