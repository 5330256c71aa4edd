"""How the tables came to be what they are; `python -m nvcops.adapters.records` writes the next one."""
