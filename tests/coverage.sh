#!/usr/bin/env bash
# Which lines the tests run, `make coverage`: of the C++ core below build/coverage/cpp, of Python below build/coverage/python.
#     tests/coverage.sh BIN    (the folder of the environment's programs)
set -euo pipefail
bin=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
out=$PWD/build/coverage
export PATH="$bin:$PATH"
mkdir -p "$out/cpp"

# Threads count atomically; every line has its counter, since nothing is optimised away.
cmake -S . -B "$out/build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DFASTHASH_PYTHON=OFF -DFASTHASH_TESTS=ON \
  -DCMAKE_CXX_FLAGS="--coverage -fprofile-update=atomic -O0" > /dev/null
cmake --build "$out/build"
ctest --test-dir "$out/build" --output-on-failure
gcovr --root . --filter cpp/src --filter cpp/include --filter cpp/gpu --gcov-ignore-parse-errors=all \
  --print-summary --html-details "$out/cpp/index.html" "$out/build"

python -m pytest --cov=fasthash --cov-report=term --cov-report=html:"$out/python" "${@:2}"
