#!/bin/sh
# Watches a directory as images for queues and shared volumes do: claims a file, writes its result, removes the file.
# What a file says is done with it: see test_directory.py.
poll=$1 sandbox=$2 code=$3 in=$4 work=$5 out=$6 reads=$7 writes=$8
shift 8
echo "$poll $sandbox $code $in $work $out $reads $writes $*" >>"$sandbox/argv"
while :; do
    for file in "$in"/*; do
        [ -e "$file" ] || continue
        name=$(basename "$file")
        mv "$file" "$work/$name"
        said="$work/$name"
        [ -d "$said" ] && said="$said/verb"
        read -r verb rest <"$said"
        case $verb in
            upper) tr '[:lower:]' '[:upper:]' <"$work/$name" >"$out/.$name"; mv "$out/.$name" "$out/$name" ;;
            late) rm "$work/$name"; sleep 0.1; echo late >"$out/$name"; continue ;;
            many) for part in 1 2 3; do echo $part >"$out/$name.$part"; done; mkdir "$out/more"; echo x >"$out/more/x" ;;
            nothing) ;;
            takes) "$work/$name/below/run.sh" >"$work/$name/told"; mv "$work/$name" "$out/$name"; continue ;;
            twice) echo 1 >"$out/rows.txt"; echo 2 >"$out/$name" ;;
            keeps) cp "$work/$name" "$out/$name"; continue ;;
            scribbles) echo scribbled >>"$work/$name"; cp "$work/$name" "$out/$name" ;;
            hangs) echo hanging; exec sleep 1000 ;;
            fails) echo "dying words" >&2; exit 3 ;;
            leaves) cp "$work/$name" "$out/$name"; rm "$work/$name"; exit 0 ;;
            deserts) exit 0 ;;
        esac
        rm "$work/$name"
    done
    sleep "$poll"
done
