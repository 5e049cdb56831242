#!/bin/bash
# Thumbnails of .fic files by a file manager itself: a home of its own, `facecodec desktop install`, Thunar and tumblerd
# under Xvfb. Counts what they put into ~/.cache/thumbnails, and takes a picture of the window. On Debian it needs
# apt install xvfb thunar tumbler dbus-x11 shared-mime-info desktop-file-utils imagemagick
#
#     benchmarks/thumbnails.sh docs/images/thumbnails.webp FILE.fic...
set -eu
out=$(realpath -m "$1")
shift
facecodec=$(realpath -s "$(dirname "$0")/../.venv/bin/facecodec")
home=$(mktemp -d)
server=
trap 'test -z "$server" || kill $server; rm -rf "$home"' EXIT
mkdir -m 700 "$home/faces" "$home/run"
cp "$@" "$home/faces"
export HOME=$home XDG_RUNTIME_DIR=$home/run DISPLAY=:77
unset XDG_DATA_HOME XDG_CACHE_HOME XDG_CONFIG_HOME
"$facecodec" desktop install
Xvfb $DISPLAY -screen 0 640x370x24 & server=$!
sleep 3
dbus-run-session -- bash -c '
    thunar "$HOME/faces" &
    for _ in {1..100}; do
        sleep 2
        made=$(find "$HOME/.cache/thumbnails" -name "*.png" -not -path "*/fail/*" | wc -l)
        test "$made" -ge '$#' && break
    done 2>/dev/null
    sleep 5
    echo "$made thumbnails of '$#' files"
    import -window root "$0"
    kill %1' "$out" 2>/dev/null
"$facecodec" desktop uninstall
