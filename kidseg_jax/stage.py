"""`python -m kidseg_jax.stage`: the main job, the verb `stage` by a name of its own."""

import sys

from kidseg_jax.cli.stage import main

if __name__ == "__main__":
    sys.exit(main())
