"""Everybody's telephone: pages arrive here over HTTP and are kept with their time; it can be told to behave badly."""
