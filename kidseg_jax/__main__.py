"""`python -m kidseg_jax VERB`."""

import sys

from kidseg_jax.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
