#!/bin/sh
# Restore the newest backup and a random point in time beside the live system, and prove both.
# Written from the code by `make docs`; edit the code.
home=$(dirname "$(dirname "$(readlink -f "$0")")")
nvcops="$home/.venv/bin/nvcops"
[ -x "$nvcops" ] || nvcops=nvcops
exec "$nvcops" run test-backup-restore "$@"
