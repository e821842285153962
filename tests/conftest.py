"""Strict numerics for every test, and the real data where it stands beside the project."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real label maps and CTs: KIDSEG_DATA, or ../shared/data beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("KIDSEG_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"real data: neither KIDSEG_DATA nor {beside.name} beside the checkout is there")
    return folder
