#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The toolstack for tests of XenReplica: fake_xl.sh FOLDER BYTES MANNER COMMAND [DOMID]. It makes the file FOLDER/made when there
# is a copy, and FOLDER/unmade when it has destroyed it; BYTES is how long a stream is. MANNER is how it behaves.
folder=$1 bytes=$2 manner=$3 command=$4

if [ "$command" = destroy ]; then
  echo "$5" >"$folder/destroyed-by-command"
  [ "$manner" = destroys-nothing ] || : >"$folder/unmade"
  exit 0
fi

banner() { printf 'xl migration receiver ready, send binary domain data.\n'; }
# Reads no byte more than the stream has.
receive() { head -c "$bytes" >"$folder/stream"; }
ready() { printf 'domain received, ready to unpause\0'; }
until_end() { cat >/dev/null; }
unmake() { : >"$folder/unmade"; }

case $manner in
  good)
    banner; receive; : >"$folder/made"; ready; until_end; unmake ;;
  silent) until_end ;;
  rubbish) printf 'bash: xl: command not found\n'; until_end ;;
  dies-at-once) echo 'cannot open xen' >&2; exit 1 ;;
  dies-in-stream)
    banner; head -c 100 >/dev/null; echo 'libxl: error: failed to free memory for the domain' >&2; exit 3 ;;
  killed-in-stream)
    banner; head -c 100 >/dev/null; : >"$folder/made"; kill -9 $$ ;;
  hangs-in-stream)
    banner; head -c 100 >/dev/null; : >"$folder/made"; exec sleep 60 ;;
  never-ready)
    banner; receive; : >"$folder/made"; echo 'waiting for hotplug' >&2; until_end; unmake ;;
  not-ready)
    banner; receive; : >"$folder/made"; printf 'domain received, but no'; until_end; unmake ;;
  hangs-at-end)
    banner; receive; : >"$folder/made"; ready; until_end; exec sleep 60 ;;
  destroys-nothing)
    banner; receive; : >"$folder/made"; ready; until_end ;;
esac
