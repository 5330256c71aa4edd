"""The outbox's far end: messages that the records hold are sent, through apprise or to a webhook."""

from nvcops.adapters.outbox.sender import Sender

__all__ = ["Sender"]
