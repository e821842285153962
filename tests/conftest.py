"""Strict numerics for every test, and the real data where it stands beside the project."""

import os
import resource
from collections.abc import Callable, Iterator
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


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], None]]:
    """Files may not grow past a size: what a full disk or a quota does to a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
