#!/bin/sh
# Written by Belay. Brings back the version that served before, with nothing but Docker Compose:
# the same as typing the three commands of the emergency procedure, after a look at whether they can work.
set -eu
cd "$(dirname "$0")/.."
before=docker-compose.yml.backup
refuse() {
    echo "$1; nothing was changed" >&2
    echo "next: $2" >&2
    exit 1
}
[ -e "$before" ] || refuse "there is no version before this one" "deploy a corrected version"
[ -s "$before" ] || refuse "$before is empty" "run \`belay repair\`, which writes it again"
if command -v docker-compose >/dev/null 2>&1; then compose() { docker-compose "$@"; }
else compose() { docker compose "$@"; }
fi
said=$(compose -f "$before" config -q 2>&1) ||
    refuse "$before is not a Compose file that can be used: $said" "run \`belay repair\`, which writes it again"
for image in $(compose -f "$before" config 2>/dev/null | sed -n "s/^    image: *//p" | tr -d "\"'" | sort -u); do
    docker image inspect "$image" >/dev/null 2>&1 || docker pull -q "$image" >/dev/null 2>&1 ||
        refuse "the image $image is not on this host, and cannot be pulled" "deploy that version's tag again"
done
# First, so that a deployment that is under way sees it and brings nothing back.
cp "$before" docker-compose.yml
compose down --remove-orphans
# Something that it made a moment ago may be in the way once.
compose up -d --remove-orphans || { sleep 3; compose up -d --remove-orphans; }
