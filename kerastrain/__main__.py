"""`python -m kerastrain`."""

import sys

from kerastrain.cli import main

if __name__ == "__main__":  # processes that training starts import this file again
    sys.exit(main())
