"""Copies of the database that are ours alone, to be tried on: see core.clones."""
