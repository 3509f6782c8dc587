# SPDX-License-Identifier: Apache-2.0
#
# vllm_add_op_library(NAME SOURCES...): a loadable torch operator library NAME.so in
# VLLM_OUTPUT_DIR. No rpath: the process has loaded libtorch_cpu already when it loads one of these.

function(vllm_add_op_library name)
  add_library(${name} MODULE ${ARGN})
  set_target_properties(${name} PROPERTIES
    PREFIX "" SUFFIX ".so"
    LIBRARY_OUTPUT_DIRECTORY "${VLLM_OUTPUT_DIR}"
    SKIP_BUILD_RPATH ON)
  target_include_directories(${name} PRIVATE
    "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}")
  target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra>)
  target_link_libraries(${name} PRIVATE vllm::torch_stable)
  # Under -z defs a symbol that exists nowhere fails here, not at the user's first import.
  target_link_options(${name} PRIVATE "LINKER:-z,defs" "LINKER:--as-needed")
endfunction()
