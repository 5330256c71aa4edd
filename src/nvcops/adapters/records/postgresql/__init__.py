"""Django's engine for PostgreSQL, whose sessions wait no longer than a deadline for a server that went silent."""
