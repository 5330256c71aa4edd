"""What can be broken, for real, and how it is healed again."""
