"""python -m nvclab."""

from nvclab.cli import main

main()
