#!/bin/bash
# Before an edge starts: its disk is mounted, its files are fetched into memory.
# /etc/cypheron-edge/fetch has a line for each: VERSION PATH.
set -euo pipefail
umask 077

user=$1
data=$2
files=${FILES:-/run/cypheron-edge}
disk=${JOURNAL_DISK-/dev/disk/by-id/google-journal}
metadata=${METADATA:-http://metadata.google.internal}
secrets=${SECRETS:-https://secretmanager.googleapis.com}

if [ -n "$disk" ] && ! mountpoint -q "$data"; then
    mkdir -p "$data"
    [ -b "$disk" ] || { echo "$disk is not there" >&2; exit 1; }
    # Only a disk with nothing on it is made a file system: one that cannot be read
    # is another exit code.
    found=0
    blkid --probe "$disk" >/dev/null || found=$?
    case $found in
        0) ;;
        2) mkfs.ext4 -q -m 0 -E lazy_itable_init=0,lazy_journal_init=0,discard "$disk" ;;
        *) echo "$disk cannot be read" >&2; exit 1 ;;
    esac
    mount -o nosuid,nodev,noexec,noatime "$disk" "$data"
    chown "$user:$user" "$data"
    chmod 700 "$data"
fi

# A token or a secret is never an argument: those are for all to see.
token=$(curl --silent --show-error --fail --retry 10 --retry-all-errors --max-time 10 \
    --header 'Metadata-Flavor: Google' \
    "$metadata/computeMetadata/v1/instance/service-accounts/default/token" \
    | sed -n 's/.*"access_token" *: *"\([^"]*\)".*/\1/p')
[ -n "$token" ] || { echo 'no access token' >&2; exit 1; }

while read -r version path; do
    mkdir -p "$files$(dirname "$path")"
    printf 'header = "Authorization: Bearer %s"\n' "$token" \
        | curl --config - --silent --show-error --fail --retry 10 --retry-all-errors --max-time 10 \
            "$secrets/v1/$version:access" \
        | tr -d '\n' | sed -n 's/.*"data" *: *"\([^"]*\)".*/\1/p' | base64 -d >"$files$path.new"
    [ -s "$files$path.new" ] || { echo "$version is empty" >&2; exit 1; }
    mv "$files$path.new" "$files$path"
done <"${FETCH:-/etc/cypheron-edge/fetch}"
chown -R "$user:$user" "$files"
