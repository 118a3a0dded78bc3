#!/usr/bin/env bash
# Proves that a release of Belay is published only when its two commits, its manifest and its assets agree: the commands
# of dist-scripts/release in a small repository, with a stand-in for gh. No network. A few seconds.
# Each test is a function named as the fact it checks. Failure: exit 1 and the log of that test.
set -euo pipefail

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
box=$(mktemp -d)
# shellcheck source=tests/action/facts.sh
. "$tree/tests/action/facts.sh"
trap 'rm -rf "$box"' EXIT
export GITHUB_REPOSITORY=example/belay GITHUB_REF_NAME=v0.1.0
git_() { git -C "$box/tree" -c user.name=belay -c user.email=belay@example.com "$@"; }

# Serves $box/assets as the draft's; notes every call; attests nothing whose name is in $box/unattested.
stand_in() {
  mkdir -p "$box/bin"
  cat >"$box/bin/gh" <<'SH'
#!/bin/sh
printf '%s\n' "$*" >>"$BOX/calls"
case "$1 $2" in
"release view") cat "$BOX/state" ;;
"release download") cp "$BOX"/assets/belay-* "$5" ;;
"attestation verify") ! grep -qxF "$(basename "$3")" "$BOX/unattested" ;;
esac
SH
  chmod +x "$box/bin/gh"
}

# program TARGET: a stand-in for the binary; it makes pages and scripts.
program() {
  printf '#!/bin/sh\n# of %s\n' "$1"
  cat <<'SH'
case $1 in
man) mkdir -p "$2" && echo page >"$2/belay.1" ;;
completions) echo "words for $2" ;;
esac
SH
}

# fresh: commit A, its two binaries with their archives, and the manifest committed as commit B.
fresh() {
  rm -rf "$box/tree" "$box/assets" "$box/fetched"
  mkdir -p "$box/tree/dist-scripts" "$box/assets"
  for file in calls unattested state; do : >"$box/$file"; done
  cp "$tree/dist-scripts/release" "$tree/dist-scripts/targets.json" "$box/tree/dist-scripts/"
  printf 'version = "0.1.0"\n' >"$box/tree/Cargo.toml"
  touch "$box/tree/LICENSE" "$box/tree/README.md"
  printf '%s\n\n' '# Log' '## [Unreleased]' 'later' '## [0.1.0] - 2026-01-31' '### Added' 'the first' \
    '## [0.0.1]' 'older' >"$box/tree/CHANGELOG.md"
  git init --quiet "$box/tree"
  git_ add --all
  git_ commit --quiet --message A
  for target in x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu; do
    program "$target" >"$box/assets/belay-$target"
    release archive "$box/assets" "$target"
  done
  release manifest "$box/assets"
  cp "$box/log" "$box/tree/dist-scripts/targets.json"
  git_ commit --quiet --all --message B
}

release() {
  status=0
  BOX="$box" PATH="$box/bin:$PATH" "$box/tree/dist-scripts/release" "$@" >"$box/log" 2>"$box/errors" || status=$?
}

expect() { "$@" || { printf 'expected: %s\nstatus: %s\n' "$*" "$status"; cat "$box/log" "$box/errors"; return 1; }; }
refused() { [ "$status" -eq 1 ] && grep -qF "error: $1" "$box/errors"; }

# --- the facts ---

the_manifest_names_version_repository_commit_and_checksums() {
  local manifest=$box/tree/dist-scripts/targets.json
  expect [ "$(jq -r '[.version, .repository, ."built-from"] | join(" ")' "$manifest")" = \
    "0.1.0 example/belay $(git_ rev-parse HEAD^)" ]
  expect [ "$(jq -r '.targets["x86_64-unknown-linux-gnu"]' "$manifest")" = \
    "$(sha256sum <"$box/assets/belay-x86_64-unknown-linux-gnu" | cut -d ' ' -f 1)" ]
}

the_manifest_keeps_the_form_that_install_reads() {
  expect [ "$(sed 's/": ".*"/": ""/' "$box/tree/dist-scripts/targets.json")" = \
    "$(sed 's/": ".*"/": ""/' "$tree/dist-scripts/targets.json")" ]
}

two_commits_that_differ_in_the_manifest_are_accepted() {
  release check-commits
  expect [ "$status" -eq 0 ]
}

a_second_commit_that_changes_more_is_refused() {
  printf 'version = "0.1.0"\n# more\n' >"$box/tree/Cargo.toml"
  git_ commit --quiet --all --amend --message B
  release check-commits
  expect refused "could not accept the commit: it changes Cargo.toml, dist-scripts/targets.json"
}

a_commit_in_between_is_refused() {
  git_ commit --quiet --allow-empty --message C
  release check-commits
  expect refused "could not accept the commit: the one before it"
}

a_tag_of_another_version_is_refused() {
  GITHUB_REF_NAME=v0.2.0 release check-commits
  expect refused "could not accept the tag v0.2.0"
}

a_manifest_of_another_repository_is_refused() {
  GITHUB_REPOSITORY=example/fork release check-commits
  expect refused "could not accept the manifest: it is of another repository"
}

assets_that_agree_are_accepted() {
  release check-assets "$box/fetched"
  expect [ "$status" -eq 0 ]
  expect [ "$(grep -c '^attestation verify' "$box/calls")" -eq 4 ]
}

an_asset_that_was_replaced_is_refused() {
  program evil >"$box/assets/belay-aarch64-unknown-linux-gnu"
  release check-assets "$box/fetched"
  expect refused "could not accept the asset for aarch64-unknown-linux-gnu"
}

an_asset_without_an_attestation_is_refused() {
  local asset
  for asset in belay-x86_64-unknown-linux-gnu belay-x86_64-unknown-linux-gnu.tar.gz; do
    printf '%s\n' "$asset" >"$box/unattested"
    rm -rf "$box/fetched"
    release check-assets "$box/fetched"
    expect [ "$status" -ne 0 ]
  done
}

an_archive_with_another_program_is_refused() {
  program evil >"$box/assets/belay-evil"
  mv "$box/assets/belay-aarch64-unknown-linux-gnu" "$box/kept"
  mv "$box/assets/belay-evil" "$box/assets/belay-aarch64-unknown-linux-gnu"
  release archive "$box/assets" aarch64-unknown-linux-gnu
  mv "$box/kept" "$box/assets/belay-aarch64-unknown-linux-gnu"
  release check-assets "$box/fetched"
  expect refused "could not accept the archive for aarch64-unknown-linux-gnu"
}

a_missing_archive_is_refused() {
  rm "$box/assets/belay-aarch64-unknown-linux-gnu.tar.gz"
  release check-assets "$box/fetched"
  expect refused "could not find the assets for aarch64-unknown-linux-gnu"
}

an_archive_has_program_pages_and_completions_and_is_the_same_each_time() {
  local name=belay-x86_64-unknown-linux-gnu file
  local packed=$box/assets/$name.tar.gz
  tar --list --gzip --file "$packed" >"$box/log"
  for file in belay LICENSE README.md man/belay.1 completions/belay.bash completions/_belay completions/belay.fish; do
    expect grep -qxF "$name/$file" "$box/log"
  done
  expect [ "$(tar --extract --gzip --file "$packed" --to-stdout "$name/completions/_belay")" = "words for zsh" ]
  release archive "$box/assets" x86_64-unknown-linux-gnu
  cp "$packed" "$box/first"
  touch "$box/assets/$name"
  (umask 077 && release archive "$box/assets" x86_64-unknown-linux-gnu)
  expect cmp "$box/first" "$packed"
}

a_missing_binary_makes_no_manifest() {
  rm "$box/assets/belay-aarch64-unknown-linux-gnu"
  release manifest "$box/assets"
  expect refused "could not find the binary for aarch64-unknown-linux-gnu"
}

a_draft_has_the_notes_of_its_version_alone() {
  release draft "$box/assets"
  expect [ "$status" -eq 0 ]
  expect grep -qF 'release create v0.1.0 --draft' "$box/calls"
  expect grep -q '^### Added' "$box/calls"
  expect grep -q '^the first' "$box/calls"
  expect [ "$(grep -cE 'later|older' "$box/calls")" -eq 0 ]
}

a_version_without_notes_is_not_drafted() {
  sed -i 's/^## \[0\.1\.0\].*/## [0.1.0-rc.1]/' "$box/tree/CHANGELOG.md"
  release draft "$box/assets"
  expect refused "could not find the notes of v0.1.0 in CHANGELOG.md"
}

an_older_draft_is_replaced_and_a_published_version_is_not() {
  echo true >"$box/state"
  release draft "$box/assets"
  expect grep -qx 'release delete v0.1.0 --yes' "$box/calls"
  echo false >"$box/state"
  release draft "$box/assets"
  expect refused "could not draft v0.1.0: it is published"
}

# --- running them ---

stand_in
play release
