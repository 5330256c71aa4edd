"""`python -m nvcops`."""

from nvcops.cli import main

if __name__ == "__main__":
    main()
