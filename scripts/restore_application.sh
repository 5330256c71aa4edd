#!/bin/sh
# Put a version that is kept back into service: all traffic to it first, then every main slot.
# Written from the code by `make docs`; edit the code.
home=$(dirname "$(dirname "$(readlink -f "$0")")")
nvcops="$home/.venv/bin/nvcops"
[ -x "$nvcops" ] || nvcops=nvcops
exec "$nvcops" run restore-application "$@"
