# cmake --install: the libraries, their headers, the command, and a CMake package, so that another project says
# find_package(ito) and links ito::nn.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(ito_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/ito)
set(ITO_PACKAGE_USES_CUDA OFF)

# A build without the CUDA back end has no ito_kernels_cuda.
foreach(target ito_flags ito_cuda_libraries ito_cuda_runtime ito_kernels_cpu ito_kernels_cuda ito_core ito_nn ito_diffusion)
  if(TARGET ${target})
    string(REGEX REPLACE "^ito_" "" name ${target})
    set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
    install(TARGETS ${target} EXPORT ito ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  endif()
endforeach()
if(TARGET ito_kernels_cuda)
  set(ITO_PACKAGE_USES_CUDA ON)
endif()
install(TARGETS ito RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

# What an installed ito_flags gives to programs: see there.
target_include_directories(ito_flags INTERFACE "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/ito>")
# Headers lie in include/ito as they do here, so that "core/tensor.h" finds them with include/ito in the path.
# Those named -inl.h are Highway's way of compiling code once per instruction set: only kernels include them.
foreach(layer kernels core nn diffusion)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${layer} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/ito
          FILES_MATCHING PATTERN "*.h" PATTERN "*.def" PATTERN "*-inl.h" EXCLUDE)
endforeach()

install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
file(GLOB ito_recipes CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/apps/recipes/*.toml)
install(FILES ${ito_recipes} DESTINATION ${CMAKE_INSTALL_DATADIR}/ito/recipes)

install(FILES ${PROJECT_BINARY_DIR}/ito.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
        RENAME ito)

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/ito-config.cmake.in ${PROJECT_BINARY_DIR}/ito-config.cmake
                              INSTALL_DESTINATION ${ito_package_dir} NO_SET_AND_CHECK_MACRO)
# Below 1.0 a minor version may change what programs use.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/ito-config-version.cmake COMPATIBILITY SameMinorVersion)
file(GLOB ito_finders CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/Find*.cmake)
install(FILES ${PROJECT_BINARY_DIR}/ito-config.cmake ${PROJECT_BINARY_DIR}/ito-config-version.cmake ${ito_finders}
        DESTINATION ${ito_package_dir})
install(EXPORT ito NAMESPACE ito:: FILE ito-targets.cmake DESTINATION ${ito_package_dir})
