# Sum up the flights of one piece by airport and band of wind.
#
# In: CSV airport,wind_band,dep_delay. Out, to the file `out`: CSV airport,wind_band,flights,cancelled,delay,late with
# `delay` the sum of the minutes and `late` the flights more than `late` minutes late. Only counts and sums of whole
# minutes leave this step, so that adding up the pieces gives the same however the table was cut. Rows come out in
# the order in which their groups first came in: the same input gives the same bytes.
#
# Plain awk (POSIX); called as: awk -v late=15 -v out=FILE -f aggregate.awk FILE

BEGIN { FS = ","; print "airport,wind_band,flights,cancelled,delay,late" > out }

FNR == 1 { next }

NF != 3 {
    printf "%s, line %d: expected 3 columns, found %d\n", FILENAME, FNR, NF > "/dev/stderr"
    failed = 1
    exit 1
}

{
    group = $1 "," $2
    if (!(group in flights)) { order[++groups] = group }
    flights[group]++
    if ($3 == "") { cancelled[group]++; next }
    delay[group] += $3
    if ($3 + 0 > late + 0) { later[group]++ }
}

END {
    if (failed) { exit 1 }
    for (i = 1; i <= groups; i++) {
        group = order[i]
        # %.0f, as %d of some awks stops at 2^31; doubles are exact to 2^53.
        printf "%s,%.0f,%.0f,%.0f,%.0f\n", group, flights[group], cancelled[group], delay[group], later[group] > out
    }
    if (close(out) != 0) { exit 1 }
}
