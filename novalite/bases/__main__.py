"""``python -m novalite.bases``: the process that serves and fills bases."""

import sys

from novalite.bases.process import main

if __name__ == "__main__":
    sys.exit(main())
