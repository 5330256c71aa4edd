"""The store of releases: built, signed, verified, unpacked; each is there whole, or not at all."""
