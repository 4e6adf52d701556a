#!/bin/bash
# All that a card is needed for, in one command, for a machine that is lent for minutes.
#
#     bash benchmarks/gpu_suite.sh [WHEEL] [DATA]
#
# WHEEL: a wheel of fasthash with the module _cuda, installed first; empty: fasthash is installed already. DATA: a folder
# whose trainings.sh, if it has one, runs last. In this order, each with its own limit of time: the GPU's tests, memcheck
# and racecheck of compute-sanitizer at tiny sizes, the benchmark, the trainings. A step that fails does not end the
# others. At the end one table; logs, bench.json and suite.json are in $OUT (default: gpu_suite).
#
# SIZE=full (default), quick or tiny: of the benchmark. FASTHASH_GPU_EMULATOR: the emulator's module, in place of a card.
set -u
cd "$(dirname "$0")/.."
wheel=${1:-} data=${2:-} size=${SIZE:-full} out=${OUT:-gpu_suite} python=${PYTHON:-python}
mkdir -p "$out"
out=$(realpath "$out")
rm -f "$out"/*.log "$out"/*.json "$out/steps.txt"

# step NAME SECONDS COMMAND...: runs a command within its limit, and notes what became of it.
step() {
    local name=$1 limit=$2 begin=$SECONDS code
    shift 2
    echo "== $name, at most $limit s: $*"
    timeout --kill-after=10 "$limit" "$@" 2>&1 | tee "$out/$name.log"
    code=${PIPESTATUS[0]}
    case $code in 0) code=passed ;; 124 | 137) code="over time" ;; *) code="failed ($code)" ;; esac
    printf '%s\t%s\t%s\t%s\n' "$name" "$code" "$((SECONDS - begin))" "$limit" >> "$out/steps.txt"
}
skip() { printf '%s\t%s\t0\t0\n' "$1" "skipped: $2" >> "$out/steps.txt"; }

case $size in
    full) flags=(--compare --seconds 270) limit=300 ;;
    quick) flags=(--quick) limit=60 ;;
    tiny) flags=(--tiny) limit=120 ;;
    *) echo "SIZE must be full, quick or tiny, got $size" >&2 && exit 2 ;;
esac
chosen=${FASTHASH_GPU_EMULATOR:+emulator and few_codes} # an emulator's run has tests of its own
[ -n "$wheel" ] && step install 60 "$python" -m pip install --no-deps --force-reinstall "$wheel"
step tests 60 "$python" -m pytest tests/test_gpu.py -q -x -k "${chosen:-card}"
for tool in memcheck racecheck; do
    if [ -n "${FASTHASH_GPU_EMULATOR:-}" ]; then
        skip "$tool" "the emulator checks reads and barriers itself"
    elif command -v compute-sanitizer > /dev/null; then
        step "$tool" 120 compute-sanitizer --tool "$tool" --error-exitcode 9 "$python" benchmarks/gpu_bench.py --tiny
    else
        skip "$tool" "no compute-sanitizer"
    fi
done
step bench "$limit" "$python" benchmarks/gpu_bench.py "${flags[@]}" --json "$out/bench.json"
if [ -f "$data/trainings.sh" ]; then
    step trainings 400 bash "$data/trainings.sh" "$out"
else
    skip trainings "no trainings.sh in the data folder"
fi

echo
"$python" - "$out" <<'EOF'
import json, pathlib, sys

out = pathlib.Path(sys.argv[1])
steps = [line.split("\t") for line in (out / "steps.txt").read_text().splitlines()]
bench = json.loads((out / "bench.json").read_text()) if (out / "bench.json").exists() else {"rows": []}
print("| step | | seconds | limit |\n| --- | --- | ---: | ---: |")
for name, result, took, limit in steps:
    print(f"| {name} | {result} | {took} | {limit} |")
print("\n| workload | seconds | | target |\n| --- | ---: | ---: | ---: |")
for row in bench["rows"]:
    print(f"| {row['workload']} | {row['seconds']:.3g} | {row['note']} | {row['target']} |")
keys = ("step", "result", "seconds", "limit")
done = [dict(zip(keys, step, strict=True)) for step in steps]
(out / "suite.json").write_text(json.dumps({"steps": done, "bench": bench}, indent=1))
sys.exit(any(step[1] != "passed" and not step[1].startswith("skipped") for step in steps))
EOF
