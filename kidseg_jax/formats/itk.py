"""The itk module, quiet, and its errors in one line: DICOM alone is read through it."""

import threading
from typing import Any

_LOADING = threading.Lock()


def quiet_itk() -> Any:
    """The itk module with its own warnings off: what is wrong with a file is said by this package, once.

    ITK loads its parts on first use, and two threads that load them at once get half a module: one thread
    loads all that is used here while the others wait.
    """
    with _LOADING:
        import itk

        module: Any = itk
        module.Object.SetGlobalWarningDisplay(False)
        for part in ("ImageFileReader", "PyBuffer"):
            getattr(module, part)
    return module


def itk_reason(error: BaseException) -> str:
    """The last plain line of an ITK exception, without source files, addresses and folders."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else type(error).__name__
    text = text.split("): ")[-1].removeprefix("ITK ERROR: ")
    return " ".join(word.rsplit("/", 1)[-1] if "/" in word else word for word in text.split())
