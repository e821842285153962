"""Pytrees of arrays in one safetensors file each: no pickle, a checksum inside, whole or not at all."""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as packed

from kidseg_jax.atomic import written_whole

FORMAT = "kidseg_jax checkpoint 2"
BEFORE = "kidseg_jax checkpoint 1"  # its checksum leaves out the notes on the tree
HEADER = "kidseg_jax"
Tree = TypeVar("Tree")


class Saved(NamedTuple):
    """A file as read, its checksum held: arrays by their leaves' paths, the notes on them, SHA-256."""

    path: Path
    arrays: dict[str, np.ndarray]
    about: dict[str, Any]
    sha256: str


def save(path: str | os.PathLike[str], tree: Any, about: dict[str, Any]) -> str:
    """Write the leaves of `tree` under their paths; returns the SHA-256 of all that the file says.

    about: what can be JSON, written beside them. Raises OSError where there is no room.
    """
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in _named_leaves(tree)}
    text = json.dumps(about)
    digest = _digest(arrays, FORMAT + text)
    header = json.dumps({"format": FORMAT, "sha256": digest, "about": text})
    with written_whole(path) as temporary:
        # one key: safetensors writes several in any order
        temporary.write_bytes(packed(arrays, {HEADER: header}))
    return digest


def load(path: str | os.PathLike[str], like: Tree) -> Tree:
    """The tree saved at `path`, in the shape of `like`.

    Raises ValueError when the file is torn or fits another tree.
    """
    return tree_of(read(path), like)


def tree_of(saved: Saved, like: Tree) -> Tree:
    """What was read, in the shape of `like`; ValueError when it fits another tree."""
    path, arrays = saved.path, saved.arrays
    names = [name for name, _ in _named_leaves(like)]
    if sorted(names) != sorted(arrays):
        raise ValueError(f"{path}: holds {len(arrays)} arrays of another network, need {len(names)}")
    leaves = []
    for name, want in _named_leaves(like):
        if arrays[name].shape != np.shape(want):
            raise ValueError(f"{path}: {name} must have shape {np.shape(want)}, got {arrays[name].shape}")
        leaves.append(jax.numpy.asarray(arrays[name]))
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def about(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The notes on the tree as it was saved, and its `sha256`; ValueError when the file is torn."""
    saved = read(path)
    return {**saved.about, "sha256": saved.sha256}


def read(path: str | os.PathLike[str]) -> Saved:
    """A file whose checksum holds over arrays, names, types, shapes and notes.

    Of a file of an older version the arrays alone are under the checksum: it is taken, with a line on stderr.
    Raises FileNotFoundError or PermissionError, and ValueError when the file is torn, changed or another's.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    if not os.access(path, os.R_OK):
        raise PermissionError(f"{path}: this user may not read it")
    try:
        with safe_open(path, framework="numpy") as stream:
            header = (stream.metadata() or {}).get(HEADER, "{}")
            arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole checkpoint ({error})") from error
    try:
        metadata = json.loads(header)
        version, text, sha256 = (str(metadata.get(key)) for key in ("format", "about", "sha256"))
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: its header was changed ({error})") from error
    if version not in (FORMAT, BEFORE):
        raise ValueError(f"{path}: need format {FORMAT!r}, got {metadata.get('format')!r}")
    if _digest(arrays, version + text if version == FORMAT else "") != sha256:
        raise ValueError(f"{path}: the data do not match their checksum")
    if version == BEFORE:
        line = f"{path}: of an older version, whose checksum leaves out the settings: they are taken on trust"
        print(f"kidseg_jax: {line}", file=sys.stderr)
    try:
        return Saved(path, arrays, dict(json.loads(text)), sha256)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: its header was changed ({error})") from error


def _digest(arrays: dict[str, np.ndarray], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
