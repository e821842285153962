"""The verbs of `python -m kidseg_jax`, one file each: a dataclass of arguments and what it does with them."""
