#!/bin/bash
# All that a card is needed for, in one command, for a machine that is lent for minutes.
#
#     bash benchmarks/gpu_suite.sh [WHEEL] [DATA]
#
# WHEEL: a wheel of fasthash with the module _cuda, installed first; empty: fasthash is installed already. DATA: a folder
# whose trainings.sh, if it has one, runs last. In this order, each with its own limit of time: the GPU's tests, the
# benchmark, memcheck and racecheck of compute-sanitizer at tiny sizes, the trainings. A step that fails does not end the
# others. After every step $OUT (default: gpu_suite) has table.md and suite.json beside the logs and bench.json; the
# table is printed at the end.
#
# SIZE=full (default), quick or tiny: of the benchmark. BUDGET: seconds for all steps together (default: 590); the later
# steps get what is left. FASTHASH_GPU_EMULATOR: the emulator's module, in place of a card.
set -u
# Paths are those of the caller's folder.
wheel=${1:+$(realpath -m "$1")} data=${2:+$(realpath -m "$2")} out=${OUT:+$(realpath -m "$OUT")}
cd "$(dirname "$0")/.."
size=${SIZE:-full} budget=${BUDGET:-590} python=${PYTHON:-python}
out=${out:-$PWD/gpu_suite}

case $size in
    full) flags=(--compare) limit=300 ;;
    quick) flags=(--quick) limit=60 ;;
    tiny) flags=(--tiny) limit=120 ;;
    *) echo "SIZE must be full, quick or tiny, got $size" >&2 && exit 2 ;;
esac
needed=(pytest pytest_timeout hypothesis numpy)
[ -z "${FASTHASH_GPU_EMULATOR:-}" ] && needed+=(torch)
"$python" - "${needed[@]}" <<'EOF' || exit 2
import importlib.util, sys

missing = [name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]
if missing:
    sys.exit(f"{sys.executable} must have the packages {', '.join(sys.argv[1:])}, but has no {', '.join(missing)}; "
             f"install them with: python -m pip install {' '.join(missing).replace('_', '-')}")
EOF
mkdir -p "$out"
rm -f "$out"/*.log "$out"/*.json "$out/steps.txt" "$out/table.md"

# note NAME RESULT SECONDS LIMIT: notes what became of a step, and writes the table anew, so that a kill leaves it.
note() {
    printf '%s\t%s\t%s\t%s\n' "$@" >> "$out/steps.txt"
    "$python" - "$out" <<'EOF'
import json, pathlib, sys

out = pathlib.Path(sys.argv[1])
steps = [line.split("\t") for line in (out / "steps.txt").read_text().splitlines()]
bench = json.loads((out / "bench.json").read_text()) if (out / "bench.json").exists() else {"rows": []}
lines = ["| step | | seconds | limit |", "| --- | --- | ---: | ---: |"]
lines += [f"| {name} | {result} | {took} | {limit} |" for name, result, took, limit in steps]
lines += ["", "| workload | seconds | | target |", "| --- | ---: | ---: | ---: |"]
for row in bench["rows"]:
    seconds = "" if row["seconds"] is None else f"{row['seconds']:.3g}"
    lines.append(f"| {row['workload']} | {seconds} | {row['note']} | {row['target']} |")
(out / "table.md").write_text("\n".join(lines) + "\n")
keys = ("step", "result", "seconds", "limit")
done = [dict(zip(keys, step, strict=True)) for step in steps]
(out / "suite.json").write_text(json.dumps({"steps": done, "bench": bench}, indent=1))
EOF
}
# step NAME SECONDS COMMAND...: runs a command within its limit, and within what is left of the budget.
step() {
    local name=$1 limit=$2 begin=$SECONDS code
    shift 2
    [ "$limit" -le "$((budget - begin))" ] || limit=$((budget - begin))
    if [ "$limit" -lt 5 ]; then
        result="not run: $budget s are over"
        note "$name" "$result" 0 0
        return
    fi
    echo "== $name, at most $limit s: $*"
    timeout --kill-after=10 "$limit" "$@" 2>&1 | tee "$out/$name.log"
    code=${PIPESTATUS[0]}
    case $code in 0) result=passed ;; 124 | 137) result="over time" ;; *) result="failed ($code)" ;; esac
    note "$name" "$result" "$((SECONDS - begin))" "$limit"
}
skip() { note "$1" "skipped: $2" 0 0; }
# finish: prints the table; fails if a step did.
finish() {
    echo
    cat "$out/table.md"
    ! cut -f 2 "$out/steps.txt" | grep -qvE '^(passed$|skipped: )'
}

chosen=${FASTHASH_GPU_EMULATOR:+emulator and few_codes} # an emulator's run has tests of its own
if [ -n "$wheel" ]; then
    step install 60 "$python" -m pip install --no-deps --force-reinstall "$wheel"
    [ "$result" = passed ] || { finish; echo "the wheel cannot be installed: $wheel" >&2; exit 1; }
fi
step tests 120 "$python" -m pytest tests/test_gpu.py tests/test_gpu_jaccard.py -q \
    -k "${chosen:-card or many_codes_and_queries}"
left=$((budget - SECONDS < limit ? budget - SECONDS : limit)) # groups of rows begin while there is time for them
step bench "$limit" "$python" benchmarks/gpu_bench.py "${flags[@]}" --seconds $((left * 4 / 5)) --json "$out/bench.json"
for tool in memcheck racecheck; do
    if [ -n "${FASTHASH_GPU_EMULATOR:-}" ]; then
        skip "$tool" "the emulator checks reads and barriers itself"
    elif command -v compute-sanitizer > /dev/null; then
        step "$tool" 120 compute-sanitizer --tool "$tool" --error-exitcode 9 "$python" benchmarks/gpu_bench.py --tiny
    else
        skip "$tool" "no compute-sanitizer"
    fi
done
if [ -f "$data/trainings.sh" ]; then
    step trainings 400 bash "$data/trainings.sh" "$out"
else
    skip trainings "no trainings.sh in the data folder"
fi
finish
