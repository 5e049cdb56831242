#!/bin/sh
# Compares codecs on your own photographs of faces: sh examples/bench.sh photos/ report/
#
# Install first: pip install 'facecodec[train,bench]' && pip install --no-deps 'facenet-pytorch>=2.6,<2.7'
# The folder may have a sub-folder for each person. report/report.html opens in a browser: it has
# the curves, and the faces under every codec at about the same rate. More options, for example
# --limit 20, go to the bench.
set -eu
photos=$1
report=$2
shift 2
facecodec bench --dataset "$photos" -o "$report" --resume --recogniser mobilefacenet-ms1m \
    --model l2-ipr:2,4 --codec jpeg:20,50 --codec webp:20,60 --codec avif:30,50 "$@"
