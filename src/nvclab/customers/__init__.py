"""The customers: a load generator that arrives on time whether or not the bank keeps up (open loop)."""
