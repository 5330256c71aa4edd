"""The real parts: each module finds a program, configures it, starts it, and stops it without a trace."""
