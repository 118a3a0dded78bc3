#!/usr/bin/env bash
# Finds the belay binary for this Actions runner, as the first step of action.yml.
#
# Promise: the path written as `bin=` to $GITHUB_OUTPUT is a binary that was checked. A released one is checked against
# the SHA-256 in dist-scripts/targets.json, which the pin of the action authenticates, each time it is used; a built one
# comes from this very tree. Nothing here contacts the host.
# Failure: exit 10 and three lines on stderr (error, host, next), the same as an annotation.
#
# Reads: BELAY_INSTALL (auto, download, source, or a path), RUNNER_OS, RUNNER_ARCH, RUNNER_TOOL_CACHE, RUNNER_TEMP,
# CARGO_TARGET_DIR (where a build goes), GITHUB_OUTPUT. Needs bash, curl for a download, Rust and a C compiler to build.
# Tests set BELAY_TEST_DOWNLOAD_BASE; it is refused unless it points at this machine.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
manifest=$root/dist-scripts/targets.json
install=${BELAY_INSTALL:-auto}

# fail ERROR NEXT: one message, for the log and for the annotation. Text from outside is kept on its line, so that it
# can start no workflow command.
fail() {
  local error=${1//[$'\r\n']/ } next=${2//[$'\r\n']/ }
  printf 'error: %s\nhost: untouched\nnext: %s\n' "$error" "$next" >&2
  if [ -n "${GITHUB_ACTIONS:-}" ]; then
    error=${error//%/%25} next=${next//%/%25}
    printf '::error title=Belay could not be installed::%s%%0Ahost: untouched%%0Anext: %s\n' "$error" "$next"
  fi
  exit 10
}

say() { printf 'belay: %s\n' "${1//[$'\r\n']/ }" >&2; }

# field NAME: a string of the manifest. It is written one entry a line (a test keeps it so), which spares the runner jq.
field() { sed -n 's/^ *"'"$1"'": *"\([^"]*\)",\{0,1\}$/\1/p' "$manifest" | head -n 1; }

sha256_of() {
  local tool=(sha256sum)
  command -v sha256sum >/dev/null || tool=(shasum -a 256)
  "${tool[@]}" <"$1" | cut -d ' ' -f 1
}

# The runner's name for itself, or uname's where there is no runner, as a Rust target. Belay sends its own binary to the
# host as the agent, so only Linux will do. An architecture without a release has no target, and is built from source.
find_target() {
  local os=${RUNNER_OS:-$(uname -s)} arch=${RUNNER_ARCH:-$(uname -m)}
  case $os in
  Linux) ;;
  Windows | MINGW* | MSYS*) refuse_runner Windows ;;
  macOS | Darwin) refuse_runner macOS ;;
  *) refuse_runner "$os" ;;
  esac
  case $arch in
  X64 | x86_64 | amd64) target=x86_64-unknown-linux-gnu ;;
  ARM64 | aarch64 | arm64) target=aarch64-unknown-linux-gnu ;;
  *) target= ;;
  esac
  machine="$os $arch"
}

refuse_runner() {
  fail "could not use a $1 runner: Belay sends its own binary to the host, which is Linux" \
    "set 'runs-on: ubuntu-latest' (or any Linux runner) for this job"
}

tool_cache() {
  local dir=${RUNNER_TOOL_CACHE:-}
  # Never a guessable directory that other users of the machine can write.
  if [ -z "$dir" ] || ! mkdir -p "$dir/belay" 2>/dev/null || [ ! -w "$dir/belay" ]; then
    dir=${RUNNER_TEMP:-$(mktemp -d)}
  fi
  printf '%s/belay\n' "$dir"
}

# keep FILE DESTINATION: another job on this machine sees either no file or the whole of it.
keep() {
  local aside
  if ! { mkdir -p "$(dirname "$2")" && aside=$(mktemp "$2.XXXXXX") && cp "$1" "$aside" && chmod 755 "$aside" &&
    mv -f "$aside" "$2"; }; then
    fail "could not write $2" "free some space on the runner, or point RUNNER_TOOL_CACHE at a directory it may write"
  fi
}

# use PATH HOW: the one way out.
use() {
  say "using $1 ($2)"
  if [ -n "${GITHUB_OUTPUT:-}" ]; then printf 'bin=%s\n' "$1" >>"$GITHUB_OUTPUT"; else printf 'bin=%s\n' "$1"; fi
  exit 0
}

from_path() {
  local path=$1
  case $path in /*) ;; *) path=${GITHUB_WORKSPACE:-$PWD}/$path ;; esac
  [ -f "$path" ] && [ -x "$path" ] ||
    fail "could not use '$1' as the binary: it is not an executable file" \
      "give 'install' the path of a belay binary, or auto, download or source"
  use "$path" "given"
}

# from_cache FILE SHA256: whether the file is there and whole. A file that is neither is removed.
from_cache() {
  local cached=$1 sha=$2
  [ -f "$cached" ] || return 1
  if [ "$(sha256_of "$cached")" != "$sha" ]; then
    say "the cached binary is not the one that was put there; it is removed"
    rm -f "$cached"
    return 1
  fi
  [ -x "$cached" ] || chmod 755 "$cached"
}

find_download_base() {
  base=${BELAY_TEST_DOWNLOAD_BASE:-}
  case $base in
  "") base=https://github.com/$repository/releases/download/v$version ;;
  file://* | http://127.0.0.1:*) ;;
  *) fail "could not accept BELAY_TEST_DOWNLOAD_BASE: it is for tests on this machine" "unset it" ;;
  esac
}

# fetch URL FILE: HTTPS only, redirects included; what a test serves on this machine is the exception.
fetch() {
  local protocol='=https' retries=4
  [ -z "${BELAY_TEST_DOWNLOAD_BASE:-}" ] || { protocol='=file,http' retries=1; }
  curl --proto "$protocol" --tlsv1.2 --fail --silent --show-error --location --connect-timeout 20 --max-time 300 \
    --retry "$retries" --retry-delay 1 --retry-max-time 120 --retry-all-errors --output "$2" "$1"
}

# Returns 1 when nothing could be downloaded; ends everything when what came is not what was released.
from_download() {
  local cached=$1 sha=$2 base aside actual
  find_download_base
  command -v curl >/dev/null || { say "no curl here"; return 1; }
  aside=$(mktemp "${RUNNER_TEMP:-/tmp}/belay.XXXXXX")
  if ! fetch "$base/belay-$target" "$aside"; then
    rm -f "$aside"
    return 1
  fi
  actual=$(sha256_of "$aside")
  if [ "$actual" != "$sha" ]; then
    rm -f "$aside"
    fail "could not verify belay $version for $target: its SHA-256 is $actual, and this action expects $sha" \
      "run the job again; when it stays so, do not use this release and tell the maintainers (SECURITY.md)"
  fi
  keep "$aside" "$cached"
  rm -f "$aside"
}

# What decides the binary, and nothing else: a change of the docs needs no new build.
source_key() {
  (
    cd "$root"
    paths=(Cargo.toml Cargo.lock .cargo src examples/workflows)
    [ ! -e build.rs ] || paths+=(build.rs)
    find "${paths[@]}" -type f | LC_ALL=C sort | while IFS= read -r file; do
      printf '%s %s\n' "$(sha256_of "$file")" "$file"
    done | sha256_of /dev/stdin
  )
}

require_build_tools() {
  local tool missing=()
  for tool in cargo rustc cc make perl; do command -v "$tool" >/dev/null || missing+=("$tool"); done
  [ ${#missing[@]} -eq 0 ] ||
    fail "could not build belay from source on this runner ($machine): ${missing[*]} not found" \
      "use a release of the action on an x64 or arm64 runner, or install Rust, a C compiler, make and perl before it"
}

# Flags of the job's own Rust project would replace ours, and with them the static link that the agent depends on.
build() {
  (
    cd "$root"
    env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS -u CARGO_BUILD_RUSTFLAGS -u CARGO_BUILD_TARGET \
      CARGO_TARGET_DIR="$2" cargo build --release --locked --target "$1" >&2
  )
}

# A build is kept under the key of its source and its own SHA-256, so it can be checked and two jobs cannot disagree.
from_source() {
  local kept built triple target_dir status=0
  kept=$cache/source-$(source_key)/${target:-${machine// /-}}
  for built in "$kept"/*/belay; do
    ! from_cache "$built" "$(basename "$(dirname "$built")")" || use "$built" "built here before from the same source"
  done
  require_build_tools
  triple=$(cd "$root" && rustc -vV | sed -n 's/^host: //p')
  target_dir=${CARGO_TARGET_DIR:-$root/target}
  case $target_dir in /*) ;; *) target_dir=$PWD/$target_dir ;; esac
  built=$target_dir/$triple/release/belay
  say "building from source; this takes some minutes, once per version and runner"
  build "$triple" "$target_dir" || status=$?
  [ "$status" -eq 0 ] && [ -f "$built" ] ||
    fail "could not build belay from source (cargo ended with $status)" \
      "read cargo's messages above; Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")+ is needed"
  kept=$kept/$(sha256_of "$built")/belay
  keep "$built" "$kept"
  use "$kept" "built from source"
}

released() { [[ $sha =~ ^[0-9a-f]{64}$ && -n $repository ]]; }

main() {
  case $install in
  auto | download | source) ;;
  *) from_path "$install" ;;
  esac
  find_target
  cache=$(tool_cache)
  [ "$install" != source ] || from_source

  version=$(field version)
  repository=$(field repository)
  sha=$([ -z "$target" ] || field "$target")
  if ! released; then
    [ "$install" = auto ] ||
      fail "could not download belay $version: there is no release of it for ${target:-$machine}" \
        "set 'install: auto' or 'install: source' to build it here"
    say "no release of belay $version for ${target:-$machine}"
    from_source
  fi

  local cached=$cache/$version/$target/belay
  ! from_cache "$cached" "$sha" || use "$cached" "from the tool cache, checked"
  ! from_download "$cached" "$sha" || use "$cached" "downloaded, checked"
  [ "$install" = auto ] ||
    fail "could not download belay $version for $target" \
      "check that this runner reaches github.com over HTTPS, or set 'install: auto' to build it here"
  say "could not download belay $version for $target; the source in the action's own tree is used instead"
  from_source
}

main
