#!/bin/sh
# Encodes every picture that appears in a folder, until Ctrl-C: sh examples/watch.sh inbox/ coded/
#
# It looks every few seconds, on any file system. A picture that is still being written fails,
# and is tried again the next time. An output exists only when it is whole.
set -eu
inbox=$1
coded=$2
while true; do
    if [ -n "$(ls "$inbox")" ]; then
        facecodec encode "$inbox" -o "$coded" --skip-existing --quiet || true
    fi
    sleep "${PAUSE:-5}"
done
