#!/usr/bin/env bash
# Fails when a folder includes something to its left in
#
#     apps -> diffusion -> nn -> core -> kernels
#
# or when any of them includes tests/ or tools/. Usage: tools/lint/layers.sh [repository root]
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"

layers=(kernels core nn diffusion apps)
status=0
for ((i = 0; i < ${#layers[@]}; ++i)); do
    forbidden=("${layers[@]:i+1}" tests tools)
    pattern="^[[:space:]]*#[[:space:]]*include[[:space:]]*[\"<](\.\./)*($(IFS='|'; echo "${forbidden[*]}"))/"
    [[ -d "${layers[i]}" ]] || { echo "layers: folder ${layers[i]} is missing in $PWD" >&2; exit 2; }
    if grep -rnE --include='*.h' --include='*.cpp' --include='*.cu' --include='*.cuh' "$pattern" "${layers[i]}"; then
        echo "layers: ${layers[i]}/ may not include ${forbidden[*]}" >&2
        status=1
    fi
done
exit $status
