# shellcheck shell=bash
# Plays the facts of a test of the action: the functions that stand between its headings "the facts" and "running them".
# Sourced by the tests here, which define `fresh` (what has to be as new before each fact) and end with `play`.

# play NAME [FACT]: all facts of the script that calls this, or that one; the log of each that fails. False when one does.
play() {
  local failed=0 count=0 fact report result
  for fact in $(sed -n '/^# --- the facts/,/^# --- running/s/^\([a-z0-9_]*\)() {$/\1/p' "${BASH_SOURCE[1]}"); do
    [ "${2-$fact}" = "$fact" ] || continue
    fresh
    count=$((count + 1))
    # Not in a condition: `set -e` has to stay on inside the test.
    set +e
    report=$(set -e; "$fact" 2>&1)
    result=$?
    set -e
    if [ "$result" -ne 0 ]; then
      failed=$((failed + 1))
      printf 'FAILED %s\n%s\n' "$fact" "$report"
    fi
  done
  printf '%s: %s facts, %s failed\n' "$1" "$count" "$failed"
  [ "$count" -gt 0 ] && [ "$failed" -eq 0 ]
}
