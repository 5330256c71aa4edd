"""Other releases of the bank, good and bad on purpose: what a rollout must let pass, and what it must stop."""
