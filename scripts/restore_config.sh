#!/bin/sh
# Put the configuration back as it was on a date, all of it or nothing; the difference is shown first.
# Written from the code by `make docs`; edit the code.
home=$(dirname "$(dirname "$(readlink -f "$0")")")
nvcops="$home/.venv/bin/nvcops"
[ -x "$nvcops" ] || nvcops=nvcops
exec "$nvcops" run restore-config "$@"
