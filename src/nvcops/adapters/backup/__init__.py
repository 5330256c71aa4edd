"""The backup repository: what is stored, how it is read back, and the tools that fill it."""
