"""What holds for every test."""

import os

# As the command line does: without it, tests that train crawl where another program uses the same cores.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
