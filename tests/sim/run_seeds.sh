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

# Runs seeds 1 .. SEEDS on both cores and counts each half as a case: run_seeds SIM SEEDS [FLAG...].
run_seeds() {
  local sim=$1 half=$(($2 / 2)) code=0 part
  shift 2
  "$sim" --seed=1 --seeds="$half" "$@" >"$HAVEN_STEP_WORK/first" 2>&1 &
  local first=$!
  "$sim" --seed=$((half + 1)) --seeds="$half" "$@" >"$HAVEN_STEP_WORK/second" 2>&1 &
  local second=$!
  for part in first second; do
    if wait "${!part}"; then
      count_passed 1
    else
      count_failed 1
      code=1
    fi
    cat "$HAVEN_STEP_WORK/$part"
  done
  return "$code"
}
