import sys

from nvcbank.cli import main

sys.exit(main())
