"""Backup, restore, drills and failover: a backup is good when it was restored and the books balanced."""
