# The sources themselves: each check, and a test that it sees a planted error.

# The folders include only what is to their right, and the check sees it when one does not, or when files go in a circle.
add_test(NAME lint.layers COMMAND ${PROJECT_SOURCE_DIR}/tools/lint/layers ${PROJECT_SOURCE_DIR})
set(planted ${CMAKE_CURRENT_BINARY_DIR}/planted_layers)
foreach(layer kernels core nn diffusion apps)
  file(WRITE ${planted}/${layer}/fine.h "#include \"kernels/fine.h\"\n")
endforeach()
file(WRITE ${planted}/core/wrong.h "#include \"nn/module.h\"\n")
file(WRITE ${planted}/core/tensor.cpp "#include \"core/a.h\"\n#include \"core/autograd/node.h\"\n")
file(WRITE ${planted}/core/a.h "#include \"core/tensor.h\"\n#include \"core/error.h\"\n")
file(WRITE ${planted}/core/error.h "#include \"core/io/file.h\"\n")
file(WRITE ${planted}/kernels/wrong.cu "  # include \"../tests/support/tensors.h\"\n")
add_test(NAME lint.layers_sees_planted_errors COMMAND ${PROJECT_SOURCE_DIR}/tools/lint/layers ${planted})
set_tests_properties(lint.layers_sees_planted_errors PROPERTIES PASS_REGULAR_EXPRESSION
  "core/error.h:1: core/error may not include core/io\ncore/tensor.cpp:2: core may not include core/autograd\n\
core/wrong.h:1: core may not include nn\nkernels/wrong.cu:1: kernels may not include tests/[^\n]*\n\
layers: includes in a circle: core/[at][^\n]* <- core/[at]"
  FAIL_REGULAR_EXPRESSION "fine.h")
set_tests_properties(lint.layers lint.layers_sees_planted_errors PROPERTIES LABELS cpu)

# Every header compiles alone, and the check sees one that does not. It takes half a minute of one processor.
set(check_headers ${PROJECT_SOURCE_DIR}/tools/lint/headers --compiler ${CMAKE_CXX_COMPILER})
add_test(NAME lint.headers COMMAND ${check_headers} --jobs 2)
set_tests_properties(lint.headers PROPERTIES LABELS "cpu;slow" PROCESSORS 2 TIMEOUT 600)
set(planted ${CMAKE_CURRENT_BINARY_DIR}/planted_headers)
foreach(layer kernels core nn diffusion apps)
  file(WRITE ${planted}/${layer}/fine.h "#pragma once\n#include <vector>\ninline std::vector<int> fine;\n")
endforeach()
file(WRITE ${planted}/core/lacks.h "#pragma once\ninline std::string name;\n")
file(WRITE ${planted}/nn/twice.h "struct Twice {};\n")
file(WRITE ${planted}/kernels/piece-inl.h "not C++\n")
file(WRITE ${planted}/kernels/absent.h "#include <cudnn_of_nowhere.h>\n")
add_test(NAME lint.headers_sees_planted_errors COMMAND ${check_headers} --jobs 1 ${planted})
set_tests_properties(lint.headers_sees_planted_errors PROPERTIES LABELS cpu PASS_REGULAR_EXPRESSION
  "core/lacks.h does not compile.*kernels/absent.h left out.*nn/twice.h does not compile.*the errors of headers"
  FAIL_REGULAR_EXPRESSION "fine.h|-inl")

# Kernels are launched in one place, which asks for the error; the check sees a launch elsewhere and one that is not checked.
add_test(NAME lint.launches COMMAND ${PROJECT_SOURCE_DIR}/tools/lint/launches.sh ${PROJECT_SOURCE_DIR})
set(planted ${CMAKE_CURRENT_BINARY_DIR}/planted_launches)
foreach(layer kernels core nn diffusion apps)
  file(WRITE ${planted}/${layer}/fine.h "// f<<<1, 1>>>() in a comment\n")
endforeach()
file(WRITE ${planted}/kernels/cuda/launch.cuh
     "f<<<1, 1>>>();\ncheck(cudaGetLastError());\ng<<<1,\n 1>>>();\nreturn;\ncudaLaunchKernel(h);\n")
file(WRITE ${planted}/core/wrong.cpp "\nf<<<1, 1>>>();\ncheck(cudaGetLastError());\n")
add_test(NAME lint.launches_sees_planted_errors COMMAND ${PROJECT_SOURCE_DIR}/tools/lint/launches.sh ${planted})
set_tests_properties(lint.launches_sees_planted_errors PROPERTIES PASS_REGULAR_EXPRESSION
  "^kernels/cuda/launch.cuh:3: [^\n]*cudaGetLastError[^\n]*\n[^\n]*launch.cuh:6: [^\n]*dropped\ncore/wrong.cpp:2: a launch outside[^\n]*\n$")
set_tests_properties(lint.launches lint.launches_sees_planted_errors PROPERTIES LABELS cpu)

# Registers and occupancy: what is computed from a log that is known, and a spill in it is seen.
set(planted ${CMAKE_CURRENT_BINARY_DIR}/planted_occupancy)
file(WRITE ${planted}/ptxas_logs.txt "${planted}/wide/ptxas.log\n")
file(WRITE ${planted}/wide/ptxas.log "Cuda compilation tools, release 1.0, V1.0\n")
foreach(kernel _Z10wide_naiveIfEvPf _Z10wide_fusedIfEvPf)
  foreach(architecture sm_80 sm_90)
    file(APPEND ${planted}/wide/ptxas.log "ptxas info    : Compiling entry function '${kernel}' for '${architecture}'\n"
         "    16 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads\n"
         "ptxas info    : Used 64 registers, used 1 barriers, 40960 bytes smem, 400 bytes cmem[0]\n")
  endforeach()
endforeach()
file(WRITE ${planted}/wide/wide.fatbin
     ".version 9.0\n.entry _Z10wide_naiveIfEvPf(\n)\n{\n}\n"
     ".entry _Z10wide_fusedIfEvPf(\n)\n.maxntid 64, 4, 1\n{\n}\n")
add_test(NAME lint.occupancy_sees_a_planted_spill COMMAND ${PROJECT_SOURCE_DIR}/tools/lint/occupancy --build ${planted})
set_tests_properties(lint.occupancy_sees_a_planted_spill PROPERTIES LABELS cpu PASS_REGULAR_EXPRESSION
  "`wide_fused` . 1 . 256 . 64 . 64 . 40960 . 16 . 12 . 50 % . 33 % . 50 % .*wide_naive` . 1 . [?] .*occupancy: wide: wide_fused spills 12 bytes")
