"""`python -m app.cli`, for an environment whose scripts are not on the path."""

from . import main

main()
