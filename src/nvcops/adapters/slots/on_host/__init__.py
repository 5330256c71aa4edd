"""What is done on a host of slots: these modules are sent to its Python, 3.9 or newer, and need no other of ours.

    ROOT/releases/DIGEST/         a release, unpacked; it is there whole or not at all
    ROOT/slots/SLOT/current    -> ../../releases/DIGEST
    ROOT/locks/                   one file for each thing that two must not do at once
    ENVIRONMENTS/LOCK          -> .LOCK.NUMBER, the interpreter for a lock; likewise whole or not at all

Each verb may be repeated after it was killed anywhere; what a killed one left is removed by the next.
"""
