"""The bank's API: one module per resource, each a list of routes over typed bodies."""
