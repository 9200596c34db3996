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

# The last 8 bytes are END, the 32 before it the state's record, for which it opens the file. A state file that is no link by then would be loaded at once.
receive_hvm() {
  head -c $((bytes - 40)) >"$folder/stream"; : >"$folder/made"
  head -c 32 >>"$folder/stream"
  tail -c 16 "$folder/stream" | head -c 9 >"$folder/qemu-resume.7"
  head -c 8 >>"$folder/stream"
}
# Its libxl also gives up in the end if the word does not come.
start_device_model() {
  : >"$folder/qemu-starts"
  while [ ! -e "$folder/device-model-runs" ]; do sleep 0.01; done
  rm "$folder/qemu-resume.7"
}

case $manner in
  good)
    banner; receive; : >"$folder/made"; ready; until_end; unmake ;;
  hvm)
    banner; receive_hvm; start_device_model; ready; until_end; unmake ;;
  hvm-dies-before-state)
    banner; head -c $((bytes - 40)) >"$folder/stream"; : >"$folder/made"; head -c 32 >/dev/null
    echo 'libxl: error: unable to open qemu-resume' >&2; unmake; exit 3 ;;
  hvm-killed-after-end)
    banner; receive_hvm; kill -9 $$ ;;
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
