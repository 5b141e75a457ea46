# Keeps the lines that are long enough: INPUT OUTPUT LENGTH. Started once for each unit; 0 means that it is done.
set -eu
awk -v least="$3" 'length($0) >= least' "$1" >"$2"
