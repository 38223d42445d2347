#!/usr/bin/env bash
# What can be seen of the CUDA back end on a machine without a GPU.
#
# 1. With a C++ compiler and NVRTC: the kernels compiled as the program does it.
# 2. With nvcc: the kernels compiled to machine code, warnings as errors.
# 3. `cargo check` with the features cuda and cudnn; without nvcc by a stand-in that compiles none of
#    candle's own kernels, which checks the types of ours all the same.
#
# The toolkit is looked for in CUDA_HOME, then beside nvcc on PATH; NVRTC in CONVZOO_NVRTC (a file),
# then in the toolkit. Architectures that a toolkit no longer knows are named and left out.
set -euo pipefail
cd "$(dirname "$0")/.."

architectures=(70 75 80 86 89 90)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
[ -n "${CUDA_HOME:-}" ] || ! nvcc=$(command -v nvcc) || CUDA_HOME=$(dirname "$(dirname "$nvcc")")
nvcc=""
[ -z "${CUDA_HOME:-}" ] || [ ! -x "$CUDA_HOME/bin/nvcc" ] || nvcc=$CUDA_HOME/bin/nvcc

nvrtc=${CONVZOO_NVRTC:-}
for file in "${CUDA_HOME:-/nowhere}"/lib*/libnvrtc.so*; do
    [ -n "$nvrtc" ] || [ ! -f "$file" ] || nvrtc=$file
done
if [ -z "$nvrtc" ]; then
    echo "skipped: no NVRTC here (set CONVZOO_NVRTC to libnvrtc.so, or CUDA_HOME)"
elif ! command -v "${CXX:-c++}" > /dev/null; then
    echo "skipped: no C++ compiler here to call NVRTC with"
else
    "${CXX:-c++}" -std=c++20 -Wall -Wextra -Werror -o "$scratch/nvrtc" tests/cuda/nvrtc.cpp -ldl
    "$scratch/nvrtc" "$nvrtc" "${architectures[*]}" src/ops/cuda/common.cuh src/ops/*/*.cu
fi

if [ -z "$nvcc" ]; then
    echo "skipped: no nvcc here (set CUDA_HOME to a toolkit)"
else
    "$nvcc" --version | tail -n 2 | head -n 1
    known=$("$nvcc" --list-gpu-code)
    flags=()
    for architecture in "${architectures[@]}"; do
        if grep -q "sm_$architecture\$" <<< "$known"; then
            flags+=(-gencode "arch=compute_$architecture,code=sm_$architecture")
        else
            echo "  left out: this nvcc does not know sm_$architecture"
        fi
    done
    for source in src/ops/*/*.cu; do
        for real in float double; do
            "$nvcc" --fatbin "${flags[@]}" -DREAL="$real" -Werror all-warnings \
                -Xcompiler -Wall,-Wextra,-Werror -o "$scratch/kernels.fatbin" "$source"
        done
        echo "  nvcc: $source, float and double, $((${#flags[@]} / 2)) architectures"
    done
fi

export CARGO_TARGET_DIR=target/cuda CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80}
if [ -n "$nvcc" ]; then
    for features in cuda cudnn; do
        PATH="$CUDA_HOME/bin:$PATH" CUDA_HOME="$CUDA_HOME" cargo check --features $features
    done
else
    echo "types alone: nvcc stands in as a script that compiles nothing"
    mkdir -p "$scratch/toolkit/bin" "$scratch/toolkit/include"
    touch "$scratch/toolkit/include/cuda.h"
    cp tests/cuda/no_nvcc.sh "$scratch/toolkit/bin/nvcc"
    # At one place, so that cargo does not build it all anew each time.
    rm -rf target/cuda-stand-in && mkdir -p target && cp -rp "$scratch/toolkit" target/cuda-stand-in
    stand_in=$PWD/target/cuda-stand-in
    for features in cuda cudnn; do
        CUDA_HOME=$stand_in NVCC=$stand_in/bin/nvcc PATH="$stand_in/bin:$PATH" \
            cargo check --features $features
    done
fi
