# shellcheck shell=bash
# Holds what the other scripts share: progress lines, missing packages, and a Docker engine that answers.
#
# Sourced by bash on a developer's machine or in CI, as root or as somebody who has sudo. Every `need_…` function is
# idempotent, says nothing and takes well under a second when there is nothing to do. Each fails with one line that
# says what could not be had; the script that sourced this file then stops (`set -e`).

# The checkout that this file belongs to, whatever the caller's working directory.
BELAY_TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
LAB_STATE=$BELAY_TOP/target/lab

# Progress goes to stderr, because the stdout of some scripts is meant for `eval`.
say() { printf '==> %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "root is needed for: $* (run this as root, or install sudo)"
    fi
}

# poll SECONDS COMMAND…: true as soon as the command succeeds, false when it still does not after that time.
poll() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

# The host triple of this machine's rustc, which names the folder that cargo writes to.
triple() { rustc -vV | sed -n 's/^host: //p'; }

# --- packages ---------------------------------------------------------------------------------------------------------

ALL_NEEDS="docker compose ssh iptables debootstrap git curl perl make gcc"

has_need() {
    case $1 in
        docker) command -v docker >/dev/null && { command -v dockerd >/dev/null || docker_answers; } ;;
        compose) docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null ;;
        debootstrap) [ -x /usr/sbin/debootstrap ] && [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] ;;
        ssh) command -v ssh >/dev/null && command -v ssh-keygen >/dev/null ;;
        iptables) command -v iptables >/dev/null || [ -x /usr/sbin/iptables ] ;;
        sshd) [ -x /usr/sbin/sshd ] ;;
        npm) command -v npm >/dev/null ;;
        git | curl | perl | make | gcc) command -v "$1" >/dev/null ;;
        *) die "unknown need '$1' (known: $ALL_NEEDS sshd npm)" ;;
    esac
}

# The name of the first of these packages that this release of the distribution has.
first_available() {
    local package
    for package in "$@"; do
        if apt-cache show "$package" >/dev/null 2>&1; then
            printf '%s' "$package"
            return
        fi
    done
    die "none of these packages is available: $*"
}

# Debian and Ubuntu split and name Docker's parts differently from release to release.
packages_for() {
    case $1 in
        docker)
            echo docker.io
            # The client left docker.io in Debian 13.
            if apt-cache show docker-cli >/dev/null 2>&1; then echo docker-cli; fi
            ;;
        compose) first_available docker-compose-v2 docker-compose ;;
        debootstrap) echo debootstrap debian-archive-keyring ;;
        ssh) echo openssh-client ;;
        sshd) echo openssh-server ;;
        npm) echo nodejs npm ;;
        gcc) echo gcc libc6-dev ;;
        curl) echo curl ca-certificates ;;
        *) echo "$1" ;;
    esac
}

apt_install() {
    local log=$LAB_STATE/apt.log
    mkdir -p "$LAB_STATE"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >"$log" 2>&1 || {
        tail -n 5 "$log" >&2
        die "apt-get could not install: $*"
    }
}

# need_packages [NEED…]: installs what is missing of these needs (without arguments: of all that the scripts use).
need_packages() {
    local need missing=() packages=()
    # shellcheck disable=SC2086 # a list of words
    [ $# -gt 0 ] || set -- $ALL_NEEDS
    for need in "$@"; do
        has_need "$need" || missing+=("$need")
    done
    [ ${#missing[@]} -gt 0 ] || return 0

    command -v apt-get >/dev/null || die "please install by hand (no apt-get here): ${missing[*]}"
    say "installing what is missing: ${missing[*]}"
    mkdir -p "$LAB_STATE"
    as_root apt-get update -qq || say "the package lists could not all be refreshed; going on with those that are here"
    for need in "${missing[@]}"; do
        # shellcheck disable=SC2207 # package names are words
        packages+=($(packages_for "$need"))
    done
    apt_install "${packages[@]}"
    for need in "${missing[@]}"; do
        has_need "$need" || die "$need is still missing after installing: ${packages[*]}"
    done
}

# No distribution packages it. Compiling it takes minutes, once.
need_nextest() {
    cargo nextest --version >/dev/null 2>&1 && return
    say "installing cargo-nextest"
    cargo install --quiet --locked cargo-nextest || die "cargo could not install cargo-nextest"
}

# --- the Docker engine ------------------------------------------------------------------------------------------------

docker_answers() { timeout 10 docker version >/dev/null 2>&1; }

# Without a cgroup hierarchy no engine starts; a bare virtual machine may have none.
need_cgroups() {
    grep -q ' /sys/fs/cgroup' /proc/mounts || as_root mount -t cgroup2 none /sys/fs/cgroup
}

start_dockerd() {
    if [ -d /run/systemd/system ]; then
        as_root systemctl start docker
        return
    fi
    need_cgroups
    mkdir -p "$LAB_STATE"
    say "starting dockerd (log: ${LAB_STATE#"$BELAY_TOP"/}/dockerd.log)"
    # --group gives the socket to whoever runs this; setsid keeps the engine when the terminal goes.
    as_root setsid nohup dockerd --group "$(id -gn)" >>"$LAB_STATE/dockerd.log" 2>&1 </dev/null &
}

# Lets a user outside the group `docker` use a running engine until it is next restarted; no group is changed.
open_docker_socket() {
    [ "$(id -u)" -ne 0 ] && [ -S /var/run/docker.sock ] && ! [ -w /var/run/docker.sock ] || return 0
    command -v setfacl >/dev/null || apt_install acl
    say "giving $(id -un) access to the Docker socket until the engine is next restarted"
    as_root setfacl -m "u:$(id -un):rw" /var/run/docker.sock
}

# need_docker: an engine that answers this user, the running one if there is one.
need_docker() {
    docker_answers && return 0
    open_docker_socket
    docker_answers && return 0
    start_dockerd
    poll 5 test -S /var/run/docker.sock || true
    open_docker_socket
    poll 60 docker_answers || die "no Docker engine answers (see $LAB_STATE/dockerd.log)"
}
