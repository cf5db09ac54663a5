"""``python -m ddarts``: the same as the command ``ddarts``."""

import sys

from ddarts.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
