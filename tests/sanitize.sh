#!/usr/bin/env bash
# The kernels under AddressSanitizer: the tests that hold them to their definitions, at every
# instruction set, with every access of this crate checked, those of vector instructions too.
# Some minutes; CONVZOO_CASES=300 tries more random shapes. Memory that the ops keep from call to call
# may be longer than what a kernel was promised, which hides a step too far; the vectors of the unit
# tests are not.
#
# Only this crate is built for it, the others as ever. Rust calls the sanitizer unstable, so the
# compiler is told for this crate alone that unstable flags are welcome: as cargo's wrapper around the
# compiler the script calls itself.
set -euo pipefail

checked=(-Zsanitizer=address -Copt-level=1)
if [ "${CONVZOO_SANITIZE:-}" = compile ]; then
    RUSTC_BOOTSTRAP=1 exec "$@" "${checked[@]}"
fi

cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Is the sanitizer there, and does it see a read one value behind the end?
cat > "$scratch/outside.rs" << 'END'
fn main() {
    let values = vec![1.0f32; std::env::args().count() * 16];
    println!("{}", unsafe { *values.as_ptr().add(values.len()) });
}
END
if ! RUSTC_BOOTSTRAP=1 rustc "${checked[@]}" -o "$scratch/outside" "$scratch/outside.rs" \
    2> "$scratch/said"; then
    echo "skipped: AddressSanitizer is not in this toolchain: $(head -n 1 "$scratch/said")"
    exit 0
fi
if "$scratch/outside" > "$scratch/said" 2>&1 || ! grep -q heap-buffer-overflow "$scratch/said"; then
    echo "error: the sanitizer has not seen a read outside a vector" >&2
    exit 1
fi

export RUSTC_WORKSPACE_WRAPPER=$PWD/tests/sanitize.sh CONVZOO_CASES=${CONVZOO_CASES:-15}
ops=(--test conv2d --test pooling --test norm --test lrn --test dense)
tests() {
    CONVZOO_SANITIZE=compile CARGO_INCREMENTAL=0 cargo test --quiet "$@"
}

tests --lib "${ops[@]}" --test engine --no-run
tests --lib ops:: # at every instruction set
for isa in avx512 avx2 plain; do
    echo "== $isa"
    export CONVZOO_ISA=$isa
    tests "${ops[@]}"
    tests --test engine -- digit_nets joined_branches parts_of_gradients frozen_layers
done
echo "AddressSanitizer has found nothing ($CONVZOO_CASES random cases a test)"
