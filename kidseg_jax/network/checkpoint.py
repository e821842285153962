"""Pytrees of arrays in one safetensors file each: no pickle, a checksum inside, whole or not at all."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from kidseg_jax.atomic import written_whole

FORMAT = "kidseg_jax checkpoint 1"
HEADER = "kidseg_jax"
Tree = TypeVar("Tree")


def save(path: str | os.PathLike[str], tree: Any, about: dict[str, Any]) -> str:
    """Write the leaves of `tree` under their paths; returns the SHA-256 of the data.

    about: what can be JSON, written beside them. Raises OSError where there is no room.
    """
    arrays = {name: np.asarray(leaf) for name, leaf in _named_leaves(tree)}
    digest = _digest(arrays)
    with written_whole(path) as temporary:
        header = json.dumps({"format": FORMAT, "sha256": digest, "about": json.dumps(about)})
        try:
            save_file(arrays, temporary, {HEADER: header})  # one key: safetensors writes several in any order
        except SafetensorError as error:  # a full disk, too
            raise OSError(f"{path}: cannot be written ({error})") from error
    return digest


def load(path: str | os.PathLike[str], like: Tree) -> Tree:
    """The tree saved at `path`, in the shape of `like`.

    Raises ValueError when the file is torn or fits another tree.
    """
    arrays, _ = _read(Path(path))
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
    """What was said of the tree when it was saved, and its `sha256`; ValueError when the file is torn."""
    _, metadata = _read(Path(path))
    return {**json.loads(metadata["about"]), "sha256": metadata["sha256"]}


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    if not os.access(path, os.R_OK):
        raise PermissionError(f"{path}: this user may not read it")
    try:
        with safe_open(path, framework="numpy") as stream:
            metadata = json.loads((stream.metadata() or {}).get(HEADER, "{}"))
            arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole checkpoint ({error})") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path}: need format {FORMAT!r}, got {metadata.get('format')!r}")
    if _digest(arrays) != metadata.get("sha256"):
        raise ValueError(f"{path}: the data do not match their checksum")
    return arrays, metadata


def _digest(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
