#!/usr/bin/env bash
# The flights example from nothing to a checked result, on this machine; see README.md next to it.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$PWD/.venv/bin:$PATH"
here=examples/flights
out=out/flights

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

say "1. The data: each airport's flights and weather"
python "$here/prepare.py"

say "2. The federation: three clusters at the airports, one in the cloud"
trap 'bdw-fed down' EXIT
bdw-fed up "$here/topology.yaml"
bdw-fed status

say "3. The steps and the workflow"
bdw-fed apply -f "$here/steps.yaml" -f "$here/workflow.yaml"

say "4. The run"
run=$(bdw-fed submit delays -o name)
bdw-fed watch "$run"
bdw-fed outputs "$run" --to "$out"

say "5. The same, computed in one pass on one machine"
if ! python "$here/onepass.py" | diff - "$out/report.csv"; then
  echo "the federation's report differs from the one-pass report" >&2
  exit 1
fi
cat "$out/report.csv"
echo "equal to the last digit; the chart is $out/report.svg"
