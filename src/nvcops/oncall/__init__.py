"""The room oncall: who is woken, and how it is made sure that they are."""
