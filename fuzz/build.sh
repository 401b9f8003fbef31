#!/bin/sh
# Builds the fuzz targets on a stable toolchain, without cargo-fuzz and without a sanitizer: the same flags as
# `cargo fuzz build -s none`. Then: target/x86_64-unknown-linux-gnu/release/<target> corpus/<target>
set -eu
cd "$(dirname "$0")"
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
 -Cllvm-args=-sanitizer-coverage-trace-compares"
exec cargo build --release --target x86_64-unknown-linux-gnu "$@"
