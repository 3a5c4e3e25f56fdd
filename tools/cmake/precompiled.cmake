# Headers of the standard library and of others that take a compiler seconds in every file, parsed once. None of ito's own:
# g++ knows a header with #pragma once by its time, so a precompiled one from the compiler cache would be read twice.
# -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON does without.
#
# ito_precompile(target [OPTIONS option ...] LIBRARIES library ... HEADERS header ...)   makes the precompiled header `target`;
# other targets use it with target_precompile_headers(... REUSE_FROM target) and must have its options.
include_guard(GLOBAL)

set(ITO_STANDARD_HEADERS <algorithm> <array> <atomic> <chrono> <cmath> <cstdint> <cstring> <filesystem> <fstream> <functional>
    <iostream> <map> <memory> <mutex> <numeric> <optional> <random> <set> <span> <sstream> <stdexcept> <string>
    <string_view> <thread> <unordered_map> <utility> <variant> <vector>)

function(ito_precompile target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "OPTIONS;LIBRARIES;HEADERS")
  set(source "${CMAKE_CURRENT_BINARY_DIR}/${target}.cpp")
  file(CONFIGURE OUTPUT "${source}" CONTENT "// ${target}\n")
  add_library(${target} OBJECT "${source}")
  target_link_libraries(${target} PRIVATE ito_flags OpenMP::OpenMP_CXX fmt::fmt ${arg_LIBRARIES})
  target_compile_options(${target} PRIVATE ${arg_OPTIONS})
  target_precompile_headers(${target} PRIVATE ${ITO_STANDARD_HEADERS} ${arg_HEADERS})
endfunction()
