#!/usr/bin/env bash
# Builds for 64-bit ARM in the development profile, as `cargo build` does there, and runs what that makes
# under emulation: tests/arm_check.sh
# Prints a line and ends well where the tools are not there. On Debian, as root:
#   dpkg --add-architecture arm64 && apt-get update
#   apt-get install --no-install-recommends rustc-web cargo-web libstd-rust-web-dev:arm64 \
#       gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
# Emulation is some fifty times slower than a machine, so what runs is small; it says nothing of speed.
set -euo pipefail
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-gnu
rustc=${ARM_RUSTC:-/usr/bin/rustc} cargo=${ARM_CARGO:-/usr/bin/cargo}
for tool in "$rustc" "$cargo" aarch64-linux-gnu-gcc qemu-aarch64; do
    command -v "$tool" >/dev/null || { echo "skipped: no $tool here"; exit 0; }
done
if [ ! -d "$("$rustc" --print sysroot)/lib/rustlib/$target" ]; then
    echo "skipped: $rustc has no standard library for $target"
    exit 0
fi

here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
# Linked statically: the emulator's loader and libc would be of two packages.
export RUSTC=$rustc RUSTFLAGS="-C target-feature=+crt-static" \
    CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc \
    AR_aarch64_unknown_linux_gnu=aarch64-linux-gnu-ar \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_DIR=${ARM_TARGET_DIR:-$here/target}
# The profile is that of people who clone this, whatever is set here.
unset CARGO_PROFILE_DEV_OPT_LEVEL

"$cargo" build --target "$target" 2>&1 | tee "$here/build.log"
if grep -q '^warning: .*`convzoo`' "$here/build.log"; then
    echo "WRONG: the build warns on $target"
    exit 1
fi

convzoo() { qemu-aarch64 "$CARGO_TARGET_DIR/$target/debug/convzoo" "$@"; }
convzoo doctor --no-speed
convzoo summary resnet18 >"$here/summary.txt"
grep -q '11,689,512' "$here/summary.txt" || { echo "WRONG: summary resnet18"; exit 1; }
convzoo train --model lenet5-relu --dataset cats-dogs-drawn --limit 32 --epochs 1 --threads 1 \
    --workers 1 --out "$here/run"
convzoo eval --weights "$here/run/best.safetensors" --dataset cats-dogs-drawn --limit 32 \
    --threads 1 --workers 1
convzoo report "$here/run"
echo "all well on $target"
