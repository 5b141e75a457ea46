# Adds up the numbers of each file that comes, times a factor, as an image of a queue-driven engine would.
poll=$1 code=$3 in=$4 work=$5 out=$6 factor=$9
[ -f "$code/watch.sh" ] || exit 64
cd "$2" || exit 65
while :; do
    for file in "$in"/*; do
        [ -e "$file" ] || continue
        name=${file##*/}
        mv "$file" "$work/$name"
        awk -v factor="$factor" 'NR > 1 { sum += factor * $1; n++ } END { print sum + 0, n + 0 }' "$work/$name" >"$out/$name"
        echo "added up $name"
        rm "$work/$name"
    done
    sleep "$poll"
done
