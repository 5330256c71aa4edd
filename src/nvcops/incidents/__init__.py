"""The room incidents: how one is led from its first alert to its last action item."""
