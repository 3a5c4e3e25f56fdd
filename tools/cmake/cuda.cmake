# CUDA sources are compiled once and linked twice: with cudart for a GPU, with the virtual GPU (tools/vgpu) for the
# tests of a machine that has none.
#
# ito_add_cuda(target file.cu ...)   compiles CUDA sources into the static library `target` and, with ITO_VGPU, translates
#                                    them for the virtual GPU
# ito_on_vgpu(executable)            links an executable with the virtual GPU instead of cudart
include_guard(GLOBAL)
include("${CMAKE_CURRENT_LIST_DIR}/editors.cmake")

find_program(ITO_NVCC nvcc PATHS /usr/local/cuda/bin)
find_package(CUDAToolkit)
if(NOT ITO_NVCC OR NOT CUDAToolkit_FOUND)
  message(FATAL_ERROR "ITO_CUDA=ON needs the CUDA toolkit; nvcc was not found. Install it, or configure with -DITO_CUDA=OFF")
endif()

find_path(ITO_CUDNN_INCLUDE_DIR cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
find_library(ITO_CUDNN_LIBRARY cudnn HINTS ${CUDAToolkit_LIBRARY_DIR})
if(NOT ITO_CUDNN_INCLUDE_DIR OR NOT ITO_CUDNN_LIBRARY)
  message(FATAL_ERROR "ITO_CUDA=ON needs cuDNN 9 (cudnn.h and libcudnn.so); set ITO_CUDNN_INCLUDE_DIR and "
                      "ITO_CUDNN_LIBRARY, or configure with -DITO_CUDA=OFF")
endif()

# The architectures of machine code, and one of PTX for those that come later. The virtual GPU translates the PTX of 80.
# Older toolkits know fewer.
if(NOT ITO_CUDA_ARCHITECTURES)
  execute_process(COMMAND "${ITO_NVCC}" --list-gpu-arch OUTPUT_VARIABLE known COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[0-9]+" known "${known}")
  foreach(architecture 80 86 89 90 100 120)
    if(architecture IN_LIST known)
      list(APPEND ITO_CUDA_ARCHITECTURES ${architecture})
    endif()
  endforeach()
endif()
set(ito_gencode)
if(ITO_VGPU)
  # For tests everything is made from one PTX: a compile for each architecture would take twice as long.
  list(TRANSFORM ITO_CUDA_ARCHITECTURES PREPEND sm_ OUTPUT_VARIABLE code)
  list(JOIN code "," code)
  list(APPEND ito_gencode -gencode "arch=compute_80,code=[${code},compute_80]" -no-compress)
else()
  foreach(architecture ${ITO_CUDA_ARCHITECTURES})
    list(APPEND ito_gencode -gencode "arch=compute_${architecture},code=sm_${architecture}")
  endforeach()
  list(GET ITO_CUDA_ARCHITECTURES -1 architecture)
  list(APPEND ito_gencode -gencode "arch=compute_${architecture},code=compute_${architecture}")
  # A quarter of the size. Every driver for CUDA 13 can unpack it; with an older toolkit it would ask for a newer driver.
  if(CUDAToolkit_VERSION VERSION_GREATER_EQUAL 13)
    list(APPEND ito_gencode -compress-mode=size)
  endif()
endif()

set(ito_nvcc_warnings -Xcompiler=-Wall,-Wextra)
if(ITO_WERROR)
  list(APPEND ito_nvcc_warnings -Werror all-warnings)
endif()

# cuBLASLt and cuDNN are loaded when they are first needed.
add_library(ito_cuda_libraries STATIC "${PROJECT_SOURCE_DIR}/core/cuda/libraries.cpp")
target_link_libraries(ito_cuda_libraries PRIVATE ito_flags fmt::fmt ${CMAKE_DL_LIBS})
target_include_directories(ito_cuda_libraries SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS} ${ITO_CUDNN_INCLUDE_DIR})
target_compile_definitions(ito_cuda_libraries PRIVATE ITO_CUDNN_LIBRARY="${ITO_CUDNN_LIBRARY}"
                           "ITO_CUBLASLT_LIBRARY=\"$<TARGET_FILE:CUDA::cublasLt>\"")

# Which runtime an executable is linked with is its own property.
add_library(ito_cuda_runtime INTERFACE)
target_link_libraries(ito_cuda_runtime INTERFACE
  "$<IF:$<BOOL:$<TARGET_PROPERTY:ITO_ON_VGPU>>,$<TARGET_NAME_IF_EXISTS:vgpu>,CUDA::cudart_static>"
  "$<$<NOT:$<BOOL:$<TARGET_PROPERTY:ITO_ON_VGPU>>>:$<TARGET_NAME:ito_cuda_libraries>>")
target_include_directories(ito_cuda_runtime SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS} ${ITO_CUDNN_INCLUDE_DIR})

function(ito_add_cuda target)
  ito_show_cuda(${ARGN})
  foreach(source ${ARGN})
    get_filename_component(path "${source}" ABSOLUTE)
    get_filename_component(stem "${path}" NAME_WE)
    set(dir "${CMAKE_CURRENT_BINARY_DIR}/cuda/${stem}")
    file(MAKE_DIRECTORY "${dir}")
    set(outputs "${dir}/${stem}.o" "${dir}/ptxas.log")
    add_custom_command(
      OUTPUT ${outputs}
      COMMAND "${PROJECT_SOURCE_DIR}/tools/cmake/nvcc_logged" "${dir}/ptxas.log"
              ${CMAKE_CXX_COMPILER_LAUNCHER} "${ITO_NVCC}" -std=c++20 -O3 -ccbin "${CMAKE_CXX_COMPILER}" -cudart none ${ito_gencode} -lineinfo
              --expt-relaxed-constexpr "-I${PROJECT_SOURCE_DIR}" -Xcompiler -fPIC,-g1 ${ito_nvcc_warnings}
              -MMD -MF "${dir}/${stem}.d" -MT "${dir}/${stem}.o" -c "${path}" -o "${dir}/${stem}.o"
      DEPENDS "${path}" "${PROJECT_SOURCE_DIR}/tools/cmake/nvcc_logged" DEPFILE "${dir}/${stem}.d"
      COMMENT "nvcc ${stem}.cu" VERBATIM)
    target_sources(${target} PRIVATE "${dir}/${stem}.o")
    set_source_files_properties("${dir}/${stem}.o" PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
    set_property(GLOBAL APPEND PROPERTY ITO_PTXAS_LOGS "${dir}/ptxas.log")
    if(ITO_VGPU)
      file(RELATIVE_PATH name "${PROJECT_SOURCE_DIR}" "${path}")
      vgpu_translate("${dir}" "${name}" "${dir}/${stem}.o" object)
      add_custom_target(ito_vgpu_${stem} DEPENDS "${object}")
      set_property(GLOBAL APPEND PROPERTY ITO_VGPU_OBJECTS "${object}")
      set_property(GLOBAL APPEND PROPERTY ITO_VGPU_TARGETS ito_vgpu_${stem})
    endif()
  endforeach()
endfunction()

function(ito_on_vgpu executable)
  get_property(objects GLOBAL PROPERTY ITO_VGPU_OBJECTS)
  get_property(targets GLOBAL PROPERTY ITO_VGPU_TARGETS)
  set_target_properties(${executable} PROPERTIES ITO_ON_VGPU ON)
  target_link_libraries(${executable} PRIVATE ${objects})
  if(targets)
    add_dependencies(${executable} ${targets})
  endif()
endfunction()
