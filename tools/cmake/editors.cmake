# ito_show_cuda(file.cu ...)   puts CUDA sources into compile_commands.json, for clangd and the editors that use it: custom
# commands call nvcc, and CMake leaves those out. The commands are clang's and are never run.
include_guard(GLOBAL)

function(ito_show_cuda)
  if(NOT TARGET ito_cuda_in_editors)
    # clang 14 wants a header that CUDA 12 no longer has, and a template of it.
    file(WRITE "${PROJECT_BINARY_DIR}/clang/texture_fetch_functions.h" "")
    find_program(ITO_NVCC nvcc PATHS /usr/local/cuda/bin)
    get_filename_component(cuda "${ITO_NVCC}" REALPATH)
    get_filename_component(cuda "${cuda}/../.." ABSOLUTE)
    add_library(ito_cuda_in_editors OBJECT EXCLUDE_FROM_ALL)
    set_target_properties(ito_cuda_in_editors PROPERTIES CXX_COMPILER_LAUNCHER "")
    target_include_directories(ito_cuda_in_editors PRIVATE "${PROJECT_SOURCE_DIR}")
    target_compile_options(ito_cuda_in_editors PRIVATE -x cuda --cuda-gpu-arch=sm_80 "--cuda-path=${cuda}" -nocudalib
                           -isystem "${PROJECT_BINARY_DIR}/clang" -D__CLANG_CUDA_TEXTURE_INTRINSICS_H__
                           -Wno-unknown-cuda-version -Wno-unknown-attributes -Wno-cuda-compat)
  endif()
  foreach(source ${ARGN})
    get_filename_component(path "${source}" ABSOLUTE)
    target_sources(ito_cuda_in_editors PRIVATE "${path}")
    set_source_files_properties("${path}" TARGET_DIRECTORY ito_cuda_in_editors PROPERTIES LANGUAGE CXX)
  endforeach()
endfunction()
