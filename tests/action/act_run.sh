#!/usr/bin/env bash
# Runs an example workflow with the composite action for real, in nektos/act, on this machine without a container.
#
#   act_run.sh EVENT EVENT_JSON WORKFLOW WORKSPACE SECRETS BINARY RESULTS [ACT OPTION...]
#
#   EVENT       push, workflow_dispatch or pull_request
#   EVENT_JSON  the event's payload; its `ref` is checked out, its `repository.full_name` becomes GITHUB_REPOSITORY
#   WORKFLOW    one of examples/workflows
#   WORKSPACE   git repository of the application; it is cloned, never changed
#   SECRETS     NAME="value" lines: BELAY_SSH_KEY, BELAY_TEST_SSH_KEY_PASSPHRASE, BELAY_KNOWN_HOSTS and GITHUB_TOKEN; a
#               quoted value may have several lines
#   BINARY      the belay binary, given to the input `install`
#   RESULTS     directory, made when missing: see read_log.py for the files
#   ACT OPTION  such as --var BELAY_HOST=127.0.0.1 (and BELAY_USER, BELAY_TEST_PORT),
#               --env GITHUB_API_URL=http://127.0.0.1:8080
#
# Promise: exits with act's status (0: the job succeeded), and the files in RESULTS are complete whatever it is. Of the
# caller's environment and home only PATH reaches the job. Needs git, python3 and what dist-scripts/lint installs.
# What act does otherwise than GitHub: it sets INPUT_* (action_test.py looks for a missing mapping instead), and it
# masks a secret of several lines only as a whole.
set -euo pipefail

[ $# -ge 7 ] || { sed -n '4,15s/^# \{0,1\}//p' "$0" >&2; exit 2; }
event=$1 payload=$(realpath "$2") workflow=$(realpath "$3") workspace=$(realpath "$4")
secrets=$(realpath "$5") binary=$(realpath "$6")
mkdir -p "$7"
results=$(realpath "$7")
shift 7

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tools=$("$tree/dist-scripts/lint" --tools)
box=$(mktemp -d)
trap 'rm -rf "$box"' EXIT

# payload_field PATH: a string of the payload, such as repository.full_name, or nothing.
payload_field() {
  python3 -c '
import json, sys
value = json.load(open(sys.argv[1], encoding="utf-8"))
for key in sys.argv[2].split("."):
    value = value.get(key, "") if isinstance(value, dict) else ""
print(value)' "$payload" "$1"
}

# A fresh clone is what actions/checkout with fetch-depth 0 leaves: all tags, and no file that is not committed.
git clone --quiet --no-hardlinks "$workspace" "$box/app"
ref=$(payload_field ref)
case $ref in
refs/heads/*) git -C "$box/app" checkout --quiet --detach "origin/${ref#refs/heads/}" ;;
?*) git -C "$box/app" checkout --quiet --detach "$ref" ;;
esac
repository=$(payload_field repository.full_name)
git -C "$box/app" remote add act "https://github.com/${repository:-example/app}.git"

# The action is another repository; it has to be below the workspace for `uses: ./`, and unseen by git as on GitHub.
mkdir -p "$box/app/.belay-action"
cp -R "$tree/action.yml" "$tree/dist-scripts" "$box/app/.belay-action/"
echo /.belay-action >>"$box/app/.git/info/exclude"

# The example, as act can run it: its schema is older (no `deployment` of an environment, no `queue`), the action is the
# tree's own, and a test needs a port, a binary and the outputs besides.
as_act_runs_it() {
  sed -e '/^ *deployment: false$/d' -e '/^ *queue: max$/d' -e 's/type: environment$/type: string/' \
    -e 's|^\( *\)- uses: OWNER/belay@.*|\1- id: belay\n\1  uses: ./.belay-action|' "$1"
  cat <<'YAML'
          port: ${{ vars.BELAY_TEST_PORT }}
          ssh-key-passphrase: ${{ secrets.BELAY_TEST_SSH_KEY_PASSPHRASE }}
          token: ${{ secrets.GITHUB_TOKEN }}
          install: ${{ vars.BELAY_TEST_INSTALL }}
      - name: outputs
        if: always()
        env:
          OUTPUTS: ${{ toJSON(steps.belay.outputs) }}
        run: printf '%s\n' "$OUTPUTS"
YAML
}
as_act_runs_it "$workflow" >"$box/workflow.yml"

# act would read .env, .secrets, .vars and .input of the application. SIGINT may have been ignored by a caller's shell,
# and an ignored signal is inherited by all below.
mkdir -p "$box/home" "$box/temp"
status=0
(
  cd "$box/app"
  exec env -i --default-signal=INT PATH="$PATH" HOME="$box/home" TMPDIR="$box/temp" LANG=C.UTF-8 \
    "$tools/act" "$event" --json --workflows "$box/workflow.yml" --eventpath "$payload" --secret-file "$secrets" \
    --platform ubuntu-latest=-self-hosted --remote-name act --no-cache-server --use-gitignore=false \
    --env-file /dev/null --var-file /dev/null --input-file /dev/null --var "BELAY_TEST_INSTALL=$binary" "$@"
) >"$results/log.jsonl" 2>&1 || status=$?

python3 "$tree/tests/action/read_log.py" "$results"
exit "$status"
