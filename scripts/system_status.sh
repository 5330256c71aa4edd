#!/bin/sh
# Show the state now in one screen: what is wrong, since when, and what changed in the last day.
# Written from the code by `make docs`; edit the code.
home=$(dirname "$(dirname "$(readlink -f "$0")")")
nvcops="$home/.venv/bin/nvcops"
[ -x "$nvcops" ] || nvcops=nvcops
exec "$nvcops" run system-status "$@"
