# Watches a directory: POLL SANDBOX CODE IN WORK OUT QUEUE QUEUE LENGTH, as images for queues and volumes are started.
# To run such an image as it is, leave bundle out of step.yaml, and name the image and its own entry.
set -eu
poll=$1 in=$4 work=$5 out=$6 least=$9
while :; do
    for file in "$in"/*; do
        [ -e "$file" ] || continue
        name=${file##*/}
        mv "$file" "$work/$name" # it is ours
        awk -v least="$least" 'length($0) >= least' "$work/$name" >"$out/$name"
        rm "$work/$name" # it is done
    done
    sleep "$poll"
done
