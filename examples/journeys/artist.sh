#!/usr/bin/env bash
# An artist with a folder of photos and a laptop: one command, run in an empty folder.
#     examples/journeys/artist.sh [PHOTOS]
# Without PHOTOS, a folder of 300 pictures of mixed sizes and orientations is made first. JOURNEY=short is for tests: few pictures,
# one iteration. Otherwise the run goes on until ^C, which leaves a snapshot, and the pictures follow.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
short=()
[ "${JOURNEY:-}" = short ] && short=(--kimg=0.008 --batch=8 --resolution=32 --threads=1)
photos=${1:-photos}
[ -d "$photos" ] || python "$here/make_photos.py" "$photos" "$([ "${JOURNEY:-}" = short ] && echo 24 || echo 300)"

# The command. It says what it found and chose, and how long that takes; pictures and report.html come by the clock.
trap : INT      # ^C ends the training alone
spider train --data="$photos" "${short[@]+"${short[@]}"}" || [ $? = 130 ]

# What there is afterwards: the page of the run, and pictures of the newest snapshot.
run=$(ls -d training-runs/0* | tail -n 1)
spider generate --network="$(ls "$run"/network-snapshot-[0-9]*.pkl | tail -n 1)" --seeds=0-3 --outdir=pictures --grid
echo "Look at $run/report.html and pictures/grid.png"
