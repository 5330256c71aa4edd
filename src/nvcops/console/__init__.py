"""The door for browsers and programs: the API, and later the pages."""
