#!/usr/bin/env bash
# Stands in for nvcc where there is none: compiles nothing, writes empty files where it is asked for
# files, so that `cargo check --features cuda` gets to our code. What is built with it cannot run.
case " $* " in
*" --version "*)
    printf '%s\n' "nvcc: a stand-in" "compiles" "nothing" "Cuda compilation tools, release 13.0, V13.0.0"
    exit
    ;;
*" --list-gpu-code "* | *" --list-gpu-arch "*)
    printf 'sm_80\nsm_90\n'
    exit
    ;;
esac
folder=.
out=""
sources=()
while [ $# -gt 0 ]; do
    case "$1" in
    -o | --output-file) out=$2 && shift ;;
    -odir | --output-directory) folder=$2 && shift ;;
    --output-directory=*) folder=${1#*=} ;;
    *.cu) sources+=("$1") ;;
    esac
    shift
done
case "$out" in
*.a) ar rc "$out" && exit ;;
?*) : > "$out" && exit ;;
esac
for source in "${sources[@]}"; do
    : > "$folder/$(basename "$source" .cu).ptx"
done
