"""`python -m manymodels` is the command line."""

from manymodels.cli.main import main

if __name__ == "__main__":
    main()
