"""``python -m novalite.quickstart``: serve an image and boot it, on this machine."""

import sys

from novalite.quickstart.run import main

sys.exit(main())
