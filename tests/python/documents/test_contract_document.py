"""The example in docs/contract.md works as it stands."""

import re
import subprocess
import sys
from pathlib import Path

from timewarp_openmm.contract import read_metadata

DOCUMENT = Path(__file__).parents[3] / "docs" / "contract.md"


def test_example_writes_a_model(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
    # A file, since TorchScript reads the source of what it compiles.
    script = tmp_path / "example.py"
    script.write_text(example)
    result = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert read_metadata(tmp_path / "steps.pt").noise_size == 18
