"""Where providers' sample payloads lie, if this machine has any: they are not part of the repository.

The folder is named by VERISINK_SAMPLES, or lies as `shared/samples` beside the repository.
"""

import os
from pathlib import Path

import pytest

# Read on import, because a fixture hides the project's variables from the tests.
_NAMED = os.environ.get("VERISINK_SAMPLES", "")
_FOLDER = Path(_NAMED) if _NAMED else Path(__file__).resolve().parents[3] / "shared" / "samples"


def samples(provider: str) -> Path:
    """The folder of a provider's samples. Skips the test where there is none."""
    folder = _FOLDER / provider
    if not folder.is_dir():
        pytest.skip(f"no samples of {provider}: set VERISINK_SAMPLES to a folder that holds them")
    return folder
