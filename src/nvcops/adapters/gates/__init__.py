"""The gates of the pipeline: one module for each kind, asked in a process of its own that ends by its deadline."""
