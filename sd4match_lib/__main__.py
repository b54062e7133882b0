"""`python -m sd4match_lib` is the `sd4match` command, for launchers that start modules."""

import sys

from sd4match_lib.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
