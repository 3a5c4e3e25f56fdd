# Installs the build tree BUILD into a fresh prefix, builds the project beside this file against it, and runs that.
# Nothing of the library is compiled again. cmake -DBUILD=... -DWORK=... -DGENERATOR=... -DCOMPILER=...
# -DLAUNCHER=... -DVERSION=... -DSOURCE=... -P run.cmake
cmake_minimum_required(VERSION 3.25)

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "${command}\nended with ${status}:\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE ${WORK})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix)

# The package must not depend on where it was built, nor on how strict its own build is.
file(GLOB_RECURSE package_files ${WORK}/prefix/*.cmake)
list(LENGTH package_files count)
if(count LESS 4)
  message(FATAL_ERROR "only ${count} CMake files were installed: ${package_files}")
endif()
foreach(file IN LISTS package_files)
  file(READ ${file} text)
  foreach(unwanted "${SOURCE}" "${BUILD}" "-Werror" "-Wall")
    string(FIND "${text}" "${unwanted}" at)
    if(NOT at EQUAL -1)
      message(FATAL_ERROR "${file} says ${unwanted}")
    endif()
  endforeach()
endforeach()
foreach(file include/ito/core/tensor.h include/ito/nn/module.h include/ito/diffusion/training/trainer.h
             share/doc/ito/LICENSE share/bash-completion/completions/ito)
  if(NOT EXISTS ${WORK}/prefix/${file})
    message(FATAL_ERROR "${file} was not installed")
  endif()
endforeach()
run(${WORK}/prefix/bin/ito --version)
if(NOT output MATCHES "^ito ${VERSION}")
  message(FATAL_ERROR "the installed command says ${output}, expected ito ${VERSION}")
endif()

# Moved, so that an absolute path in it would show.
file(RENAME ${WORK}/prefix ${WORK}/moved)
get_filename_component(project ${CMAKE_CURRENT_LIST_DIR} ABSOLUTE)
run(${CMAKE_COMMAND} -S ${project} -B ${WORK}/build -G ${GENERATOR} -DCMAKE_PREFIX_PATH=${WORK}/moved
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=${COMPILER} "-DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER}")
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/fit)
message(STATUS "${output}")
run(${WORK}/build/ddpm ${WORK}/run)
message(STATUS "${output}")
# The command opens what the library saved.
run(${WORK}/moved/bin/ito sample ${WORK}/run --num 4 --sampling-steps 2 --threads 1 --out ${WORK}/again.png)
foreach(file run/samples.png again.png)
  if(NOT EXISTS ${WORK}/${file})
    message(FATAL_ERROR "${file} was not written")
  endif()
endforeach()
file(REMOVE_RECURSE ${WORK})
