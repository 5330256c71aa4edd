#!/bin/sh
# Fail over the live pair while customers write: the gap that they see, and that nothing acknowledged is lost.
# Written from the code by `make docs`; edit the code.
home=$(dirname "$(dirname "$(readlink -f "$0")")")
nvcops="$home/.venv/bin/nvcops"
[ -x "$nvcops" ] || nvcops=nvcops
exec "$nvcops" run test-failover "$@"
