"""The itk module, quiet: packed pixels of DICOM alone are read through it."""

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
