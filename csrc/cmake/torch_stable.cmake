# SPDX-License-Identifier: Apache-2.0
#
# Defines vllm::torch_stable: headers, library and version target of torch's stable ABI.
#
# torch is located without importing it (an import takes seconds), through the Python that runs the
# build. Only libtorch_cpu is linked, and only its C functions are used, so one library loads into
# every torch from 2.10 on and into every Python.

find_package(Python3 COMPONENTS Interpreter REQUIRED)
set(_find_torch "import importlib.util
spec = importlib.util.find_spec('torch')
print(list(spec.submodule_search_locations)[0] if spec else '')")
execute_process(
  COMMAND "${Python3_EXECUTABLE}" -c "${_find_torch}"
  OUTPUT_VARIABLE VLLM_TORCH_DIR OUTPUT_STRIP_TRAILING_WHITESPACE
  RESULT_VARIABLE _torch_probe)
if(NOT _torch_probe EQUAL 0 OR VLLM_TORCH_DIR STREQUAL "")
  message(FATAL_ERROR "${Python3_EXECUTABLE} has no torch package: install torch >= 2.10 there, "
    "or name another Python with -DPython3_EXECUTABLE=PATH")
endif()
if(NOT EXISTS "${VLLM_TORCH_DIR}/include/torch/csrc/stable/library.h")
  message(FATAL_ERROR "${VLLM_TORCH_DIR} has no stable ABI headers: torch >= 2.10 is needed")
endif()
message(STATUS "torch: ${VLLM_TORCH_DIR}")

# 2.10 = 0x02 << 56 | 0x0a << 48 (torch/headeronly/version.h).
set(VLLM_TORCH_TARGET_VERSION 0x020a000000000000ULL)

add_library(vllm_torch_stable INTERFACE)
add_library(vllm::torch_stable ALIAS vllm_torch_stable)
target_include_directories(vllm_torch_stable SYSTEM INTERFACE "${VLLM_TORCH_DIR}/include")
target_compile_definitions(vllm_torch_stable INTERFACE
  TORCH_TARGET_VERSION=${VLLM_TORCH_TARGET_VERSION})
target_link_libraries(vllm_torch_stable INTERFACE "${VLLM_TORCH_DIR}/lib/libtorch_cpu.so")
