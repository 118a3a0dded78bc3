#!/usr/bin/env bash
# Proves what dist-scripts/install.sh promises, with a release served from 127.0.0.1 and a stand-in for cargo.
# Runs anywhere with bash, curl and python3; writes only below a temporary directory; takes some seconds.
# Each test is a function named as the fact it checks. Failure: exit 1 and the log of that test.
set -euo pipefail

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
box=$(mktemp -d)
# shellcheck source=tests/action/facts.sh
. "$tree/tests/action/facts.sh"
server=
stop() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  rm -rf "$box"
}
trap stop EXIT

# --- the stand-ins ---

# Answers /cut with fewer bytes than it announces, as a connection that breaks does; the rest are plain files.
serve() {
  cat >"$box/serve.py" <<'PY'
import functools, http.server, sys

class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/cut/"):
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"only the beginning")
        else:
            super().do_GET()

server = http.server.HTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=sys.argv[1]))
print(server.server_port, flush=True)
server.serve_forever()
PY
  mkdir -p "$box/release"
  exec 3< <(exec python3 "$box/serve.py" "$box/release" 2>"$box/serve.log")
  server=$!
  read -r port <&3
}

# A cargo that notes how it was called and "builds" a binary, a curl that must not be called, and no others.
stand_ins() {
  mkdir -p "$box/cargo-bin" "$box/broken-cargo-bin"
  cat >"$box/cargo-bin/cargo" <<'SH'
#!/bin/sh
printf '%s|RUSTFLAGS=%s\n' "$*" "${RUSTFLAGS-unset}" >>"$CARGO_CALLS"
mkdir -p "$CARGO_TARGET_DIR/made-up-triple/release"
printf '#!/bin/sh\necho built\n' >"$CARGO_TARGET_DIR/made-up-triple/release/belay"
chmod +x "$CARGO_TARGET_DIR/made-up-triple/release/belay"
SH
  printf '#!/bin/sh\necho "host: made-up-triple"\n' >"$box/cargo-bin/rustc"
  printf '#!/bin/sh\nexit 101\n' >"$box/broken-cargo-bin/cargo"
  for tool in cc make perl; do printf '#!/bin/sh\n' >"$box/cargo-bin/$tool"; done
  chmod +x "$box"/*cargo-bin/*
}

# fresh: an action's tree with one release in its manifest, an empty tool cache, and an x64 Linux runner.
fresh() {
  rm -rf "$box/tree" "$box/cache" "$box/temp" "$box/out" "$box/calls"
  mkdir -p "$box/tree/dist-scripts" "$box/tree/examples/workflows" "$box/tree/src" "$box/tree/.cargo" "$box/cache" "$box/temp"
  cp "$tree/dist-scripts/install.sh" "$box/tree/dist-scripts/"
  printf 'rust-version = "1.95"\n' >"$box/tree/Cargo.toml"
  printf 'lock\n' >"$box/tree/Cargo.lock"
  printf 'config\n' >"$box/tree/.cargo/config.toml"
  printf 'fn main() {}\n' >"$box/tree/src/main.rs"
  printf '#!/bin/sh\necho released\n' >"$box/release/belay-x86_64-unknown-linux-gnu"
  manifest "$(sha256sum "$box/release/belay-x86_64-unknown-linux-gnu" | cut -d ' ' -f 1)"
  : >"$box/calls"
}

# manifest SHA256: in the very form of the committed one.
manifest() {
  sed -e 's|"repository": ".*"|"repository": "example/belay"|' -e 's/"version": ".*"/"version": "9.9.9"/' \
    -e 's/"x86_64-unknown-linux-gnu": ".*"/"x86_64-unknown-linux-gnu": "'"$1"'"/' \
    "$tree/dist-scripts/targets.json" >"$box/tree/dist-scripts/targets.json"
}

# run [NAME=VALUE...]: the script as the runner calls it. Sets status, log and bin.
run() {
  : >"$box/out"
  status=0
  env -i PATH="$box/cargo-bin:/usr/local/bin:/usr/bin:/bin" HOME="$box" GITHUB_OUTPUT="$box/out" GITHUB_ACTIONS=true \
    RUNNER_OS=Linux RUNNER_ARCH=X64 RUNNER_TOOL_CACHE="$box/cache" RUNNER_TEMP="$box/temp" \
    CARGO_CALLS="$box/calls" CARGO_TARGET_DIR="$box/temp/target" \
    BELAY_TEST_DOWNLOAD_BASE="http://127.0.0.1:$port" "$@" \
    bash "$box/tree/dist-scripts/install.sh" >"$box/log" 2>&1 || status=$?
  log=$(cat "$box/log")
  bin=$(sed -n 's/^bin=//p' "$box/out")
}

# --- saying what is expected ---

expect() { "$@" || { printf 'expected: %s\nstatus: %s, bin: %s\n%s\n' "$*" "$status" "$bin" "$log"; return 1; }; }
found() { [ "$status" -eq 0 ] && [ -x "$bin" ] && [ "$("$bin")" = "$1" ]; }
logged() { [[ $log == *"$1"* ]]; }
not_logged() { [[ $log != *"$1"* ]]; }
refused() {
  [ "$status" -eq 10 ] && [ -z "$bin" ] && logged "error: $1" && logged $'\nhost: untouched\nnext: ' &&
    logged '::error title=Belay could not be installed::'
}
built_times() { [ "$(wc -l <"$box/calls")" -eq "$1" ]; }
nothing_cached() { [ -z "$(find "$box/cache" -type f)" ]; }
cached=$box/cache/belay/9.9.9/x86_64-unknown-linux-gnu/belay

# --- the facts ---

a_release_is_downloaded_and_checked() {
  run
  expect found released && expect [ "$bin" = "$cached" ] && expect logged "downloaded, checked" && expect built_times 0
}

a_second_run_takes_it_from_the_tool_cache() {
  run
  run BELAY_TEST_DOWNLOAD_BASE=http://127.0.0.1:1
  expect found released && expect logged "from the tool cache"
}

a_cached_binary_that_was_changed_is_fetched_anew() {
  run
  printf '#!/bin/sh\necho evil\n' >"$cached"
  run
  expect found released && expect logged "not the one that was put there"
}

a_wrong_checksum_ends_everything_and_builds_nothing() {
  printf '#!/bin/sh\necho evil\n' >"$box/release/belay-x86_64-unknown-linux-gnu"
  run
  expect refused "could not verify belay 9.9.9" && expect nothing_cached && expect built_times 0
}

a_file_that_ends_early_is_never_used() {
  run BELAY_TEST_DOWNLOAD_BASE="http://127.0.0.1:$port/cut" BELAY_INSTALL=download
  expect refused "could not download" && expect nothing_cached
}

a_file_cut_on_the_server_is_never_used() {
  head -c 12 "$box/release/belay-x86_64-unknown-linux-gnu" >"$box/cut"
  mv "$box/cut" "$box/release/belay-x86_64-unknown-linux-gnu"
  run
  expect refused "could not verify" && expect nothing_cached
}

a_release_that_cannot_be_reached_is_built_from_the_tree() {
  run BELAY_TEST_DOWNLOAD_BASE="http://127.0.0.1:$port/missing"
  expect found built && expect built_times 1
}

download_never_builds() {
  run BELAY_TEST_DOWNLOAD_BASE="http://127.0.0.1:$port/missing" BELAY_INSTALL=download
  expect refused "could not download belay 9.9.9" && expect built_times 0
}

a_version_without_a_checksum_is_built() {
  manifest ""
  run
  expect found built && expect logged "no release of belay 9.9.9" && expect built_times 1
}

a_version_without_a_checksum_cannot_be_downloaded() {
  manifest ""
  run BELAY_INSTALL=download
  expect refused "could not download belay 9.9.9: there is no release"
}

a_checksum_that_is_none_is_no_release() {
  manifest "0123"
  run
  expect found built && expect built_times 1
}

an_unknown_architecture_is_built() {
  run RUNNER_ARCH=RISCV64
  expect found built && expect logged "no release of belay 9.9.9 for Linux RISCV64"
}

arm64_is_another_target() {
  run RUNNER_ARCH=ARM64
  expect found built && expect logged "for aarch64-unknown-linux-gnu"
}

without_a_runner_uname_decides() {
  run RUNNER_OS= RUNNER_ARCH=
  expect [ "$status" -eq 0 ]
}

the_same_source_is_built_once() {
  run BELAY_INSTALL=source
  run BELAY_INSTALL=source
  expect found built && expect logged "built here before" && expect built_times 1
}

changed_source_is_built_again() {
  run BELAY_INSTALL=source
  printf '// changed\n' >>"$box/tree/src/main.rs"
  run BELAY_INSTALL=source
  expect found built && expect built_times 2
}

a_build_that_was_changed_in_the_cache_is_built_again() {
  run BELAY_INSTALL=source
  printf 'echo evil\n' >>"$bin"
  run BELAY_INSTALL=source
  expect found built && expect built_times 2
}

the_jobs_own_rustflags_do_not_reach_the_build() {
  run BELAY_INSTALL=source RUSTFLAGS=-Dwarnings
  expect grep -qx -- 'build --release --locked --target made-up-triple|RUSTFLAGS=unset' "$box/calls"
}

a_failed_build_is_three_lines() {
  run BELAY_INSTALL=source PATH="$box/broken-cargo-bin:$box/cargo-bin:/usr/bin:/bin"
  expect refused "could not build belay from source (cargo ended with 101)"
}

missing_build_tools_are_named() {
  mkdir -p "$box/few"
  for tool in bash env dirname sed head cut sort find sha256sum mkdir mktemp cat basename rm; do
    ln -sf "$(command -v "$tool")" "$box/few/$tool"
  done
  run BELAY_INSTALL=source PATH="$box/few"
  expect refused "could not build belay from source on this runner (Linux X64): cargo rustc cc make perl not found"
}

a_given_path_is_used_as_it_is() {
  printf '#!/bin/sh\necho given\n' >"$box/temp/mine"
  chmod +x "$box/temp/mine"
  run BELAY_INSTALL="$box/temp/mine"
  expect found given && expect built_times 0
  run BELAY_INSTALL=mine GITHUB_WORKSPACE="$box/temp"
  expect found given
}

a_given_path_that_is_no_program_is_refused() {
  run BELAY_INSTALL=nowhere/belay
  expect refused "could not use 'nowhere/belay' as the binary"
}

an_input_cannot_become_a_workflow_command() {
  run BELAY_INSTALL=$'x\n::set-output name=bin::/evil\r::debug::y'
  expect refused "could not use" && expect not_logged $'\n::set-output' && expect not_logged $'\r'
}

windows_and_macos_are_refused() {
  run RUNNER_OS=Windows
  expect refused "could not use a Windows runner"
  run RUNNER_OS=macOS RUNNER_ARCH=ARM64
  expect refused "could not use a macOS runner"
}

the_test_address_must_be_on_this_machine() {
  for base in https://example.com http://127.0.0.1.example.com http://203.0.113.10:80; do
    run BELAY_TEST_DOWNLOAD_BASE="$base"
    expect refused "could not accept BELAY_TEST_DOWNLOAD_BASE"
  done
}

a_missing_tool_cache_is_no_problem() {
  run RUNNER_TOOL_CACHE=
  expect found released && expect [ "$bin" = "$box/temp/belay/9.9.9/x86_64-unknown-linux-gnu/belay" ]
}

the_committed_manifest_names_the_crates_version() {
  run
  expect [ "$(sed -n 's/^  "version": "\(.*\)",$/\1/p' "$tree/dist-scripts/targets.json")" = \
    "$(sed -n 's/^version = "\(.*\)"$/\1/p' "$tree/Cargo.toml")" ]
}

the_source_reads_nothing_that_the_key_leaves_out() {
  run
  local outside
  outside=$({ grep -rnE 'include(_str|_bytes)?!\(' "$tree/src" || true; } | while IFS=: read -r file _ line; do
    path=$(sed -n 's/.*include[a-z_]*!( *"\([^"]*\)".*/\1/p' <<<"$line")
    case $(realpath -m "$(dirname "$file")/$path") in
    "$tree"/src/* | "$tree"/examples/workflows/* | "$tree"/Cargo.toml | "$tree"/Cargo.lock) ;;
    "$tree"/tests/*) ;; # read by tests only
    *) printf '%s: %s\n' "$file" "$path" ;;
    esac
  done)
  log=$outside
  expect [ -z "$outside" ]
}

# --- running them ---

serve
stand_ins
play install
