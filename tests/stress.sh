#!/usr/bin/env bash
# The long battery, `make stress`: what `make test` does not do for want of time. Builds below build/stress.
#     tests/stress.sh BIN    (the folder of the environment's programs)
set -euo pipefail
bin=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
out=$PWD/build/stress
mkdir -p "$out"
export MAX_EXAMPLES=500  # inputs that hypothesis tries of each test
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
flags="-O1 -g -fno-omit-frame-pointer"
memory="-fsanitize=address,undefined -fno-sanitize-recover=all"

say() { printf '\n== %s\n' "$*"; }

build() { # folder, compiler flags, further options
  PATH="$bin:$PATH" "$bin/cmake" -S . -B "$out/$1" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DFASTHASH_PYTHON=OFF \
    -DFASTHASH_TESTS=ON -DCMAKE_CXX_FLAGS="$flags $2" "${@:3}" > /dev/null
  PATH="$bin:$PATH" "$bin/cmake" --build "$out/$1" > "$out/$1.log" || { tail -n 50 "$out/$1.log"; return 1; }
}

say "8 readers, 1 writer, ThreadSanitizer"
build tsan "-fsanitize=thread" -DFASTHASH_FUZZ=OFF
(cd "$out/tsan" && ./stress_test 20)

say "core, C interface, kernels, searches, faults, memory, emulated GPU, 8 readers and 1 writer; Address- and UndefinedBehaviorSanitizer"
build asan "" -DFASTHASH_FUZZ=ON  # brings the sanitizers
for test in core_test c_api_test c_api_jaccard_test kernels_test topk_test packed_numbers_test duplicate_runs_test level_tree_test \
  clusters_test radius_test faults_test memory_test gpu_test gpu_jaccard_test "stress_test 20"; do (cd "$out/asan" && ./$test); done

say "memory that runs out at every allocation"
build plain "" -DFASTHASH_FUZZ=OFF
(cd "$out/plain" && ./memory_test thorough)

say "every state of the disk after a loss of power; processes that are killed, or save and load at once; large galleries"
FASTHASH_THOROUGH=1 "$bin/python" -m pytest -q -rP -p no:cacheprovider --timeout=1200 \
  tests/test_power_loss.py tests/test_crashes.py tests/test_store_crashes.py tests/test_sharded_stores.py \
  tests/test_saved_folders.py tests/test_building.py

say "fuzzing, 60 s each; the same sanitizers"
for target in load_fuzz search_fuzz; do (cd "$out/asan" && ./$target -max_total_time=60); done

say "the engine's Python tests; the same sanitizers in the extension"
"$bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target "$out/sanitized" \
  -C build-dir="$out/extension" -C cmake.define.CMAKE_CXX_FLAGS="$flags $memory" .
# The environment's own fasthash comes first, unless its finder is taken out.
run='import sys, pytest
sys.path.insert(0, sys.argv.pop(1))
sys.meta_path[:] = [finder for finder in sys.meta_path if "ScikitBuild" not in type(finder).__name__]
import fasthash
assert "sanitized" in fasthash.__file__, fasthash.__file__
sys.exit(pytest.main(sys.argv[1:]))'
LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
  "$bin/python" -c "$run" "$out/sanitized" -q -p no:cacheprovider --timeout=1200 -k "not ctrl_c and not fork" \
  tests/test_search.py tests/test_index.py tests/test_engine.py tests/test_updates.py tests/test_segments.py tests/test_range.py \
  tests/test_filters.py tests/test_files.py tests/test_refused_files.py tests/test_fixtures.py tests/test_stateful.py

say "two million queries whose ties and plans are hard, against the slow path"
(cd tests && "$bin/python" differential.py --queries 2000000)

say "sequences of calls: a thousand on large galleries, and on several threads"
FASTHASH_STATEFUL_EXAMPLES=1000 "$bin/python" -m pytest -q -p no:cacheprovider --timeout=7200 \
  tests/test_stateful_large.py tests/test_stateful_threads.py

for python in python3.14t python3.13t; do
  command -v "$python" > /dev/null || continue
  say "sequences of calls, $python without its lock"
  "$python" -m venv --clear "$out/$python"
  "$out/$python/bin/python" -m pip install --quiet --disable-pip-version-check . hypothesis pytest pytest-timeout
  PYTHON_GIL=0 FASTHASH_STATEFUL_EXAMPLES=300 "$out/$python/bin/python" -m pytest -q -p no:cacheprovider \
    --timeout=7200 tests/test_stateful.py tests/test_stateful_large.py tests/test_stateful_threads.py
done

say "hostile files"
(cd tests && "$bin/python" hostile.py --rounds 10)

say "hostile folders"
(cd tests && "$bin/python" hostile_folders.py)

say "a million searches, ten thousand indices"
(cd tests && "$bin/python" soak.py)

say "all passed"
