#!/usr/bin/env bash
# Fails when a CUDA kernel is launched anywhere but in kernels/cuda/launch.cuh, or there without asking for the
# launch's error in the statement that follows. Usage: tools/lint/launches.sh [repository root]
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"

folders=(kernels core nn diffusion apps)
the_place=kernels/cuda/launch.cuh
for folder in "${folders[@]}"; do
    [[ -d $folder ]] || { echo "launches: folder $folder is missing in $PWD" >&2; exit 2; }
done
[[ -f $the_place ]] || { echo "launches: $the_place is missing in $PWD" >&2; exit 2; }
mapfile -d '' files < <(find "${folders[@]}" -type f \
    '(' -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' ')' -print0)

# A launch's error is cudaGetLastError()'s after <<<>>>, the value of cudaLaunchKernel and its like.
awk -v the_place="$the_place" '
    function complain(line, what) { printf "%s:%d: %s\n", file, line, what > "/dev/stderr"; status = 1 }
    function must_have_been_checked() {
        if (open) complain(open, "the launch is not followed by cudaGetLastError()")
        open = ended = 0
    }
    FNR == 1 { must_have_been_checked(); file = FILENAME }
    {
        code = $0
        sub(/\/\/.*/, "", code)
        bracketed = code ~ /<<</
        called = code ~ /(^|[^A-Za-z0-9_])cu(da)?Launch(Cooperative)?Kernel(Ex|ExC|MultiDevice)?[[:space:]]*\(/
        if (file != the_place) {
            if (bracketed || called) complain(FNR, "a launch outside " the_place "; call launch() from there")
            next
        }
        if (called && code !~ /(=|return|check_cuda\()[[:space:]]*cu/)
            complain(FNR, "the error that the launch returns is dropped")
        if (ended && code ~ /[^[:space:]]/) {
            if (code ~ /cudaGetLastError\(\)/) open = ended = 0
            else must_have_been_checked()
        }
        if (bracketed) { must_have_been_checked(); open = FNR }
        if (open && code ~ /;/) ended = 1
    }
    END { must_have_been_checked(); exit status }
' "${files[@]}"
