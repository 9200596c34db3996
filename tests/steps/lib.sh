# SPDX-License-Identifier: Apache-2.0
#
# For the steps of tests/run: `. "$HAVEN_ROOT/tests/steps/lib.sh"`. A step is a file NN-NAME with lines "# about: ...",
# "# fast: yes" (part of --fast), "# ci: yes" (part of --ci) and "# timeout: SECONDS" in its head; it runs from the root
# of the tree, prints what it does, counts its cases and ends with 0. Given: HAVEN_ROOT, HAVEN_CACHE (survives the run), HAVEN_STEP_WORK (does
# not), HAVEN_FAST, HAVEN_CI and HAVEN_FRESH (0 or 1), HAVEN_ONLY_TARGETS (part of a target's label, or empty).
set -u -o pipefail

count_passed() { echo "passed $1" >>"$HAVEN_COUNTS"; }
count_failed() { echo "failed $1" >>"$HAVEN_COUNTS"; }
count_skipped() { echo "skipped $1" >>"$HAVEN_COUNTS"; }

# Bazel with this run's server and caches: run_bazel COMMAND [ARGUMENT...]. The lock of the run is not passed on.
run_bazel() {
  local command=$1
  shift
  local startup caching=()
  read -ra startup <<<"$HAVEN_BAZEL_STARTUP"
  case $command in
    build | test) caching=("--disk_cache=$HAVEN_CACHE/disk" --color=no --curses=no --noshow_progress --keep_going) ;;
  esac
  bazel "${startup[@]}" "$command" "${caching[@]}" "$@" 9>&-
}

# The labels of test targets that match a query expression and --only: test_labels 'tests(//...)'.
test_labels() {
  run_bazel query --noshow_progress "$1" 2>"$HAVEN_STEP_WORK/query.log" >"$HAVEN_STEP_WORK/query" || {
    cat "$HAVEN_STEP_WORK/query.log" >&2
    return 1
  }
  grep -F -- "$HAVEN_ONLY_TARGETS" "$HAVEN_STEP_WORK/query" || true
}

# Runs the test targets that match a query and counts their cases: bazel_test QUERY [FLAG...].
bazel_test() {
  local query=$1 labels events=$HAVEN_STEP_WORK/events.json fresh=()
  shift
  labels=$(test_labels "$query") || return 1
  if [[ -z $labels ]]; then
    echo "no test target matches ${HAVEN_ONLY_TARGETS:-$query}" >&2
    return 1
  fi
  ((HAVEN_FRESH)) && fresh=(--nocache_test_results)
  local code=0
  # shellcheck disable=SC2086 # labels contain no spaces
  run_bazel test "$@" "${fresh[@]}" --build_event_json_file="$events" -- $labels || code=$?
  python3 "$HAVEN_ROOT/tests/steps/count_tests.py" "$events" "$HAVEN_COUNTS" || return 1
  return "$code"
}
