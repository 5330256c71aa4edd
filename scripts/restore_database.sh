#!/bin/sh
# Restore the database from a backup, to any point in time since, and prove that it is whole.
# Written from the code by `make docs`; edit the code.
home=$(dirname "$(dirname "$(readlink -f "$0")")")
nvcops="$home/.venv/bin/nvcops"
[ -x "$nvcops" ] || nvcops=nvcops
exec "$nvcops" run restore-database "$@"
