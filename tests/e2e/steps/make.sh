# A directory of what is in a file of numbers: its name, a program that counts it, and a directory without anything.
rows=$1 made=$2
mkdir -p "$made/bin" "$made/nothing"
tail -n +2 "$rows" | sort -n >"$made/$(tail -n +2 "$rows" | sort -n | head -n 1).txt"
printf '#!/bin/sh\nwc -l <"$1"\n' >"$made/bin/count"
chmod +x "$made/bin/count"
