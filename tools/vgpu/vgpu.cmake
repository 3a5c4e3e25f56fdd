# vgpu_add_cuda(target file.cu ... [OPTIONS nvcc-option ...])
#
# Compiles CUDA sources into `target` so that they run on the virtual GPU: nvcc makes the host object and the PTX,
# ptx2cpp turns the PTX into C++, the C++ compiler turns that into a second object, and both are joined into one, so that
# a linker that takes the first out of an archive cannot leave the second behind. Links `target` with the vgpu library.
include_guard(GLOBAL)
include(CheckCXXSourceRuns)
include("${CMAKE_CURRENT_LIST_DIR}/../cmake/editors.cmake")

find_program(VGPU_NVCC nvcc PATHS /usr/local/cuda/bin)

# Hardware FMA makes fma.rn one instruction instead of a library call.
if(NOT CMAKE_CROSSCOMPILING)
  check_cxx_source_runs("
    int main() { return __builtin_cpu_supports(\"avx2\") && __builtin_cpu_supports(\"fma\") && __builtin_cpu_supports(\"bmi2\") ? 0 : 1; }"
    VGPU_HOST_HAS_FMA)
endif()
option(VGPU_DEBUG_DEVICE "Compile translated kernels without optimisation, for stepping through a thread in gdb" OFF)
if(VGPU_DEBUG_DEVICE)
  set(VGPU_DEVICE_OPTIONS -O0 -g)
else()
  set(VGPU_DEVICE_OPTIONS -O1 -g1)
endif()
list(APPEND VGPU_DEVICE_OPTIONS -std=c++20 -w -fPIC -ffp-contract=off -fno-math-errno -fno-strict-aliasing)
if(VGPU_HOST_HAS_FMA)
  list(APPEND VGPU_DEVICE_OPTIONS -mavx2 -mfma -mbmi -mbmi2 -mlzcnt -mpopcnt -mf16c)
endif()

# vgpu_translate(dir source host_object object)
#
# Sets `object` to the object file that the PTX (uncompressed) in the object that nvcc made of `source` becomes. `source` is a
# path from the project's root.
function(vgpu_translate dir source host_object object)
  get_filename_component(stem "${source}" NAME_WE)
  add_custom_command(
    OUTPUT "${dir}/${stem}.fatbin"
    COMMAND "${CMAKE_OBJCOPY}" -O binary --only-section=.nv_fatbin "${host_object}" "${dir}/${stem}.fatbin"
    DEPENDS "${host_object}"
    COMMENT "PTX of ${stem}" VERBATIM)
  add_custom_command(
    OUTPUT "${dir}/device.cpp"
    COMMAND ptx2cpp "${dir}/${stem}.fatbin" --source "${source}" -o "${dir}/device.cpp"
    DEPENDS ptx2cpp "${dir}/${stem}.fatbin"
    COMMENT "ptx2cpp ${stem}" VERBATIM)
  add_custom_command(
    OUTPUT "${dir}/device.o"
    COMMAND ${CMAKE_CXX_COMPILER_LAUNCHER} "${CMAKE_CXX_COMPILER}" ${VGPU_DEVICE_OPTIONS}
            "-I${PROJECT_SOURCE_DIR}" -MMD -MF "${dir}/device.d" -MT "${dir}/device.o"
            -c "${dir}/device.cpp" -o "${dir}/device.o"
    DEPENDS "${dir}/device.cpp" DEPFILE "${dir}/device.d"
    COMMENT "C++ of ${stem}" VERBATIM)
  set(${object} "${dir}/device.o" PARENT_SCOPE)
endfunction()

function(vgpu_add_cuda target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "OPTIONS")
  ito_show_cuda(${arg_UNPARSED_ARGUMENTS})
  foreach(source ${arg_UNPARSED_ARGUMENTS})
    get_filename_component(path "${source}" ABSOLUTE)
    get_filename_component(stem "${path}" NAME_WE)
    file(RELATIVE_PATH source_path "${PROJECT_SOURCE_DIR}" "${path}")
    string(MAKE_C_IDENTIFIER "${source_path}" name)
    set(dir "${CMAKE_CURRENT_BINARY_DIR}/vgpu/${target}/${name}")
    file(MAKE_DIRECTORY "${dir}")
    add_custom_command(
      OUTPUT "${dir}/host.o"
      COMMAND ${CMAKE_CXX_COMPILER_LAUNCHER} "${VGPU_NVCC}" -std=c++20 -ccbin "${CMAKE_CXX_COMPILER}" -cudart none
              -gencode arch=compute_80,code=compute_80 -no-compress -lineinfo
              "-I${PROJECT_SOURCE_DIR}" -Xcompiler -fPIC,-g1 ${arg_OPTIONS}
              -MMD -MF "${dir}/host.d" -MT "${dir}/host.o"
              -c "${path}" -o "${dir}/host.o"
      DEPENDS "${path}" DEPFILE "${dir}/host.d"
      COMMENT "nvcc ${name}" VERBATIM)
    vgpu_translate("${dir}" "${source_path}" "${dir}/host.o" device)
    add_custom_command(
      OUTPUT "${dir}/${stem}.o"
      COMMAND "${CMAKE_LINKER}" -r -o "${dir}/${stem}.o" "${dir}/host.o" "${device}"
      DEPENDS "${dir}/host.o" "${device}" VERBATIM)
    target_sources(${target} PRIVATE "${dir}/${stem}.o")
    set_source_files_properties("${dir}/${stem}.o" PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
  endforeach()
  set_target_properties(${target} PROPERTIES LINKER_LANGUAGE CXX)
  target_link_libraries(${target} PRIVATE vgpu)
endfunction()
