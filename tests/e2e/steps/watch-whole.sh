# Takes each directory that comes, executes the program in it, and passes it on.
in=$4 work=$5 out=$6
while :; do
    for given in "$in"/*; do
        [ -d "$given" ] || continue
        name=${given##*/}
        mv "$given" "$work/$name"
        for numbers in "$work/$name"/*.txt; do
            "$work/$name/bin/count" "$numbers" >"$numbers.count"
        done
        mv "$work/$name" "$out/passed"
    done
    sleep "$1"
done
