"""Slots: the folders of hosts in which releases run, of this host or of others by ssh."""
