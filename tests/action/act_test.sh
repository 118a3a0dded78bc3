#!/usr/bin/env bash
# Proves, in a real workflow runner, that the action hands everything to the binary and everything back: inputs,
# outputs, a cancel, a failure. A stand-in takes the place of the binary and notes how it was called. No network.
# Some seconds. Each test is a function named as the fact it checks. Failure: exit 1 and the log of that test.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
box=$(mktemp -d)
trap 'rm -rf "$box"' EXIT
# shellcheck source=tests/action/facts.sh
. "$here/facts.sh"

# --- the stand-ins ---

# Notes its environment as $BELAY_TEST_NOTES/<verb>.env; BELAY_TEST_RUN says how `run` ends.
stand_in() {
  cat >"$box/belay" <<'SH'
#!/bin/sh
env -0 >"$BELAY_TEST_NOTES/$1.env"
if [ "$1" = finalize ]; then
  [ "$BELAY_TEST_RUN" = wait ] && echo "outcome=rolled-back" >>"$GITHUB_OUTPUT"
  exit 0
fi
case $BELAY_TEST_RUN in
deploy)
  for output in outcome=deployed version=v1.1.0 previous-version=v1.0.0 revision=abc deployment-id=7 \
    environment-url=http://example.com backup=backup_20241215_143022.tar.gz rolled-back=false failed-requests=0 \
    longest-gap-ms=12 duration-ms=3456 image-size=343000000; do echo "$output" >>"$GITHUB_OUTPUT"; done
  printf '## Deployed\n' >>"$GITHUB_STEP_SUMMARY"
  ;;
fail)
  echo "outcome=refused" >>"$GITHUB_OUTPUT"
  echo "::error title=Refused::no such tag"
  sleep 0.3 # on a busy machine act was seen to lose what a step prints as it ends
  exit 10
  ;;
wait)
  trap 'echo SIGINT >"$BELAY_TEST_NOTES/signal"; kill "$!"; exit 40' INT
  sleep 20 &
  echo "$$" >"$BELAY_TEST_NOTES/waiting.new"
  mv "$BELAY_TEST_NOTES/waiting.new" "$BELAY_TEST_NOTES/waiting"
  wait
  ;;
esac
SH
  chmod +x "$box/belay"
}

application() {
  git init --quiet "$box/app"
  git -C "$box/app" config user.name belay
  git -C "$box/app" config user.email belay@example.com
  printf 'FROM_DOTENV=of-the-application\n' >"$box/app/.env"
  git -C "$box/app" add --all
  git -C "$box/app" commit --quiet --message one
  git -C "$box/app" tag v1.0.0
  git -C "$box/app" commit --quiet --allow-empty --message two
  git -C "$box/app" tag --annotate --message v1.1.0 v1.1.0
  git -C "$box/app" commit --quiet --allow-empty --message three
}

events_and_secrets() {
  cat >"$box/push.json" <<'JSON'
{"ref": "refs/tags/v1.1.0", "repository": {"full_name": "example/shop"}}
JSON
  cat >"$box/dispatch.json" <<'JSON'
{"ref": "refs/heads/BRANCH", "repository": {"full_name": "example/shop"},
 "inputs": {"command": "rollback", "version": "v1.0.0", "reason": "it is slow", "environment": "production", "dry-run": "true"}}
JSON
  sed -i "s/BRANCH/$(git -C "$box/app" branch --show-current)/" "$box/dispatch.json"
  cat >"$box/secrets" <<'ENV'
BELAY_SSH_KEY="-----BEGIN OPENSSH PRIVATE KEY-----
c3RhbmQtaW4ga2V5IGxpbmUgb25l
c3RhbmQtaW4ga2V5IGxpbmUgdHdv
-----END OPENSSH PRIVATE KEY-----
"
BELAY_TEST_SSH_KEY_PASSPHRASE="open 'sesame' $(reboot)"
BELAY_KNOWN_HOSTS="[203.0.113.10]:2222 ssh-ed25519 c3RhbmQtaW4gaG9zdCBrZXk="
GITHUB_TOKEN=token-of-the-job
ENV
}

# act EVENT HOW [OPTION...]: one workflow run. Sets status.
act() {
  local event=$1 how=$2 payload=push workflow=release
  shift 2
  [ "$event" = push ] || { payload=dispatch && workflow=rollback; }
  status=0
  "$here/act_run.sh" "$event" "$box/$payload.json" "$here/../../examples/workflows/$workflow.yml" "$box/app" "$box/secrets" \
    "$box/belay" "$box/results" --env BELAY_TEST_NOTES="$box/notes" --env BELAY_TEST_RUN="$how" \
    --var BELAY_HOST=203.0.113.10 --var BELAY_TEST_PORT=2222 --var BELAY_USER=deploy "$@" || status=$?
}

# --- saying what is expected ---

expect() { "$@" || { printf 'expected: %s\nstatus: %s\n' "$*" "${status:-}"; cat "$box/results/log.txt"; return 1; }; }
# got VERB NAME VALUE: whether the stand-in was given exactly this, newlines included.
got() {
  python3 -c 'import sys; sys.exit(sys.argv[2].encode() not in open(sys.argv[1], "rb").read().split(b"\0"))' \
    "$box/notes/$1.env" "$2=$3"
}
# entry_process_of PID: the process of its step that act itself started.
entry_process_of() {
  local pid=$1 parent
  while parent=$(sed -n 's/^PPid:\t//p' "/proc/$pid/status") && [ "$(cat "/proc/$parent/comm")" != act ]; do
    pid=$parent
  done
  printf '%s\n' "$pid"
}
waits_for() { timeout 30 bash -c "until [ -e '$1' ]; do sleep 0.1; done"; }
was_not_given() { ! grep -qz "^$2=" "$box/notes/$1.env"; }
output_is() { grep -qF "\"$1\": \"$2\"" "$box/results/outputs.json"; }
step_ended() { grep -qF "\"$1\": \"$2\"" "$box/results/steps.json"; }
not_in_log() { ! grep -qF -- "$1" "$box/results/log.jsonl"; }

fresh() {
  rm -rf "$box/results" "$box/notes"
  mkdir "$box/notes"
}

# --- the facts ---

a_pushed_tag_reaches_the_binary_with_every_input() {
  act push deploy
  expect [ "$status" -eq 0 ]
  for verb in run finalize; do
    expect got "$verb" BELAY_HOST 203.0.113.10
    expect got "$verb" BELAY_PORT 2222
    expect got "$verb" BELAY_USER deploy
    expect got "$verb" BELAY_CONFIG belay.yml
    expect got "$verb" BELAY_DRY_RUN false
    expect got "$verb" BELAY_COMMAND ""
    expect got "$verb" BELAY_TOKEN token-of-the-job
    expect got "$verb" BELAY_KNOWN_HOSTS "[203.0.113.10]:2222 ssh-ed25519 c3RhbmQtaW4gaG9zdCBrZXk="
    # shellcheck disable=SC2016 # it has to arrive as these very characters
    expect got "$verb" BELAY_SSH_KEY_PASSPHRASE "open 'sesame' "'$(reboot)'
    expect got "$verb" BELAY_SSH_KEY "-----BEGIN OPENSSH PRIVATE KEY-----
c3RhbmQtaW4ga2V5IGxpbmUgb25l
c3RhbmQtaW4ga2V5IGxpbmUgdHdv
-----END OPENSSH PRIVATE KEY-----
"
  done
  expect got finalize BELAY_STEP_OUTCOME success
  expect was_not_given run BELAY_STEP_OUTCOME
}

the_job_sees_the_tag_its_commit_and_the_repository() {
  act push deploy --env GITHUB_RUN_ID=42 --env GITHUB_API_URL=http://127.0.0.1:9
  expect got run GITHUB_REF refs/tags/v1.1.0
  expect got run GITHUB_SHA "$(git -C "$box/app" rev-parse 'v1.1.0^{commit}')"
  expect got run GITHUB_REPOSITORY example/shop
  expect got run GITHUB_RUN_ID 42
  expect got run GITHUB_API_URL http://127.0.0.1:9
  expect was_not_given run FROM_DOTENV
}

every_output_and_the_summary_come_back() {
  act push deploy
  for pair in outcome=deployed version=v1.1.0 previous-version=v1.0.0 revision=abc environment-url=http://example.com \
    deployment-id=7 backup=backup_20241215_143022.tar.gz rolled-back=false failed-requests=0 longest-gap-ms=12 \
    duration-ms=3456 image-size=343000000; do
    expect output_is "${pair%%=*}" "${pair#*=}"
  done
  expect grep -qx '## Deployed' "$box/results/summary.md"
  expect grep -qF '"deployment-id": "7"' "$box/results/log.txt"
}

a_dispatch_hands_over_its_choices() {
  act workflow_dispatch deploy
  expect [ "$status" -eq 0 ]
  expect got run BELAY_COMMAND rollback
  expect got run BELAY_ROLLBACK v1.0.0
  expect got run BELAY_REASON "it is slow"
  expect got run BELAY_ENVIRONMENT production
  expect got run BELAY_DRY_RUN true
  expect got run GITHUB_EVENT_NAME workflow_dispatch
}

finalize_runs_after_a_failure_and_the_job_fails() {
  act push fail
  expect [ "$status" -ne 0 ]
  expect step_ended belay.run failure
  expect step_ended belay.finalize success
  expect step_ended belay failure
  expect got finalize BELAY_STEP_OUTCOME failure
  expect output_is outcome refused
  expect grep -qF '"message": "no such tag"' "$box/results/annotations.json"
}

nothing_runs_when_the_binary_cannot_be_had() {
  act push deploy --var BELAY_TEST_INSTALL=/nowhere/belay
  expect [ "$status" -ne 0 ]
  expect [ ! -e "$box/notes/run.env" ]
  expect [ ! -e "$box/notes/finalize.env" ]
  expect output_is outcome refused
}

# The runner signals the step's entry process and no other; here that is act's only child.
a_cancel_reaches_the_binary_itself() {
  act push wait &
  local running=$!
  waits_for "$box/notes/waiting"
  pid=$(cat "$box/notes/waiting")
  entry=$(entry_process_of "$pid")
  kill -INT "$entry"
  wait "$running"
  expect [ "$entry" = "$pid" ]
  expect [ "$(cat "$box/notes/signal")" = SIGINT ]
  expect step_ended belay.run failure
  expect got finalize BELAY_STEP_OUTCOME failure
  expect output_is outcome rolled-back
}

no_secret_appears_in_the_log() {
  for how in deploy fail; do
    act push "$how" --verbose
    for secret in c3RhbmQtaW4ga2V5IGxpbmUgb25l c3RhbmQtaW4ga2V5IGxpbmUgdHdv 'BEGIN OPENSSH' sesame token-of-the-job; do
      expect not_in_log "$secret"
    done
  done
}

# --- running them ---

stand_in
application
events_and_secrets
play "action in act" "$@"
