# shellcheck shell=sh
# table.sh: prints what bench.d/timer.c measured. Sourced, never run.
#
# The caller has set $scratch (with the files `times`, as timer prints it, and `notes`: MEASURE/WHO, TAB, a text), $log (of
# the commands), $measures (their order), $format (`table` or `json`) and $footer. A label is MEASURE/WHO; a ratio is of
# the first WHO of the same measure.

: "${scratch:?set by the caller}" "${log:?}" "${measures:?}" "${format:?}" "${footer:?}"

# A sorted column's quantile, by linear interpolation; mawk cannot sort, so the column comes sorted.
# shellcheck disable=SC2016
summary='
function quantile(a, n, q,   at, low) {
  at = 1 + (n - 1) * q; low = int(at)
  return low >= n ? a[n] : a[low] + (at - low) * (a[low + 1] - a[low])
}
{ values[++n] = $1 }
END { if (n) printf "%.6g %.6g %.6g %d\n", quantile(values, n, .5), quantile(values, n, .25), quantile(values, n, .75), n
      else print "- - - 0" }'
: >"$scratch/rows"
reference='' last=''
for measure in $measures; do
  cut -f1 "$scratch/times" | awk -v measure="$measure/" 'index($0, measure) == 1 && !seen[$0]++'
done >"$scratch/labels"
while read -r label; do
  if [ "${label%%/*}" != "$last" ]; then reference=$label last=${label%%/*}; fi
  times=$(awk -F'\t' -v label="$label" '$1 == label && $3 != "failed" { print $3 / 1e6 }' "$scratch/times" | sort -g |
    awk "$summary")
  ratios=$(awk -F'\t' -v label="$label" -v reference="$reference" '$3 == "failed" { next }
    $1 == reference { base[$2] = $3 } $1 == label { value[$2] = $3 }
    END { for (round in value) if (base[round]) print value[round] / base[round] }' "$scratch/times" | sort -g |
    awk "$summary")
  failed=$(awk -F'\t' -v label="$label" '$1 == label && $3 == "failed"' "$scratch/times" | wc -l)
  echo "$label $times $ratios $failed" >>"$scratch/rows"
  [ "$failed" = 0 ] || say "$label failed $failed times; the last words of the commands: $(tail -n 1 "$log")"
done <"$scratch/labels"

if [ "$format" = table ]; then
  printf '%-8s %-11s %9s   %-19s %6s   %-15s %s\n' measure who 'median ms' 'quartiles' ratio quartiles rounds
  awk '{ split($1, l, "/"); printf "%-8s %-11s %9.2f   %8.2f - %-8.2f %6.2f   %5.2f - %-7.2f %d%s\n", l[1], l[2], $2, $3, $4,
    $6, $7, $8, $5, $10 ? " (" $10 " failed)" : "" }' "$scratch/rows"
  awk -F'\t' '{ split($1, l, "/"); printf "%-8s %-11s %s\n", l[1], l[2], $2 }' "$scratch/notes"
  printf '%s, %s processors, kernel %s, %s\n' "$(date -u +%Y-%m-%d)" "$(nproc)" "$(uname -r)" "$footer"
else
  {
    awk '{ split($1, l, "/"); printf "{\"measure\":\"%s\",\"who\":\"%s\",\"median_ms\":%s,\"quartiles_ms\":[%s,%s]," \
      "\"rounds\":%s,\"ratio\":%s,\"ratio_quartiles\":[%s,%s],\"failed\":%s}\n", l[1], l[2], $2, $3, $4, $5, $6, $7, $8,
      $10 }' "$scratch/rows" | sed 's/:-\([,}]\)/:null\1/g; s/\[-,-\]/null/g'
    awk -F'\t' '{ split($1, l, "/"); printf "{\"measure\":\"%s\",\"who\":\"%s\",\"note\":\"%s\"}\n", l[1], l[2], $2 }' \
      "$scratch/notes"
  } | sed '1s/^/[/; $!s/$/,/; $s/$/]/'
fi
