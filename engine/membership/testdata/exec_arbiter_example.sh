#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# An example of a program for --arbiter=exec:/path/of/program (docs/arbiter.md states the contract).
# It keeps the registers in files of one machine, in $HAVEN_ARBITER_DIR, so it is of use for trials
# only: replace the three places that touch $register by whatever your cluster trusts.
set -eu

directory=${HAVEN_ARBITER_DIR:?names the directory of the registers}
command=$1
group=$2
register=$directory/$group.txt

# From here on nobody else reads or changes a register. The caller bounds the wait: it kills us.
exec 9>"$directory/lock"
flock 9

current=absent
if [ -e "$register" ]; then
  current=$(cat "$register")
fi

case $command in
  read)
    printf '%s\n' "$current"
    exit 0
    ;;
  cas)
    IFS= read -r expected
    IFS= read -r desired
    if [ "$current" = "$expected" ]; then
      printf '%s\n' "$desired" >"$register.new"
      sync "$register.new"
      mv "$register.new" "$register"
      sync "$directory"
      printf '%s\n' "$desired"
      exit 0
    fi
    # Also when this very request was granted before: the caller knows its own stamp.
    printf '%s\n' "$current"
    exit 1
    ;;
esac

echo "unknown command '$command'" >&2
exit 64
