"""The room alerts: what becomes an alert, and to whom it goes."""
