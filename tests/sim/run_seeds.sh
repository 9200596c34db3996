# SPDX-License-Identifier: Apache-2.0
#
# For the steps that run the simulation, after lib.sh.

# Builds the simulation in a configuration and prints where it is: build_sim CONFIG.
build_sim() {
  run_bazel build "--config=$1" //tests/sim:sim >&2 || return 1
  local bin
  bin=$(run_bazel info "--config=$1" bazel-bin 2>/dev/null) || return 1
  echo "$bin/tests/sim/sim"
}

# Runs seeds 1 .. SEEDS on all cores: run_seeds SIM SEEDS [FLAG...].
run_seeds() {
  local sim=$1 seeds=$2
  shift 2
  if "$sim" --seed=1 --seeds="$seeds" "$@"; then
    count_passed 1
  else
    count_failed 1
    return 1
  fi
}
