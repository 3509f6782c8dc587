# SPDX-License-Identifier: Apache-2.0
#
# vllm_add_cpu_kernels(TARGET): adds the scalar kernels and, on x86-64, the AVX2 and AVX-512 ones.
#
# Each ISA's files are object libraries of their own with their own flags; nothing else is compiled
# with those flags, so that the library loads and runs on any x86-64 CPU. Floating point contraction
# is off in the scalar kernels: their results are the same on every machine.

include(CheckCXXCompilerFlag)

set(VLLM_AVX2_FLAGS -mavx2 -mfma -mf16c)
# gcc 12 warns inside its own intrinsics header (_mm512_undefined_*), hence the last flags.
set(VLLM_AVX512_FLAGS -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512bf16
  -mavx2 -mfma -mf16c -mprefer-vector-width=512 -Wno-maybe-uninitialized -Wno-uninitialized)
set(VLLM_AMX_FLAGS ${VLLM_AVX512_FLAGS} -mamx-tile -mamx-int8)

function(_vllm_add_isa target isa)
  cmake_parse_arguments(ARG "" "" "SOURCES;FLAGS" ${ARGN})
  add_library(vllm_cpu_${isa} OBJECT ${ARG_SOURCES})
  target_include_directories(vllm_cpu_${isa} PRIVATE
    "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}")
  target_compile_options(vllm_cpu_${isa} PRIVATE -Wall -Wextra -O3 -fno-math-errno ${ARG_FLAGS})
  target_sources(${target} PRIVATE $<TARGET_OBJECTS:vllm_cpu_${isa}>)
  string(TOUPPER ${isa} upper)
  target_compile_definitions(${target} PRIVATE VLLM_HAVE_${upper}=1)
endfunction()

function(vllm_add_cpu_kernels target)
  file(GLOB scalar CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/cpu/scalar/*.cpp")
  _vllm_add_isa(${target} scalar SOURCES ${scalar} FLAGS -ffp-contract=off)
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    message(STATUS "CPU kernels: scalar only on ${CMAKE_SYSTEM_PROCESSOR}")
    return()
  endif()
  foreach(isa IN ITEMS avx2 avx512 amx)
    file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/cpu/${isa}/*.cpp")
    string(TOUPPER ${isa} upper)
    string(REPLACE ";" " " flags "${VLLM_${upper}_FLAGS}")
    check_cxx_compiler_flag("${flags}" VLLM_COMPILER_HAS_${upper})
    if(sources AND VLLM_COMPILER_HAS_${upper})
      _vllm_add_isa(${target} ${isa} SOURCES ${sources} FLAGS ${VLLM_${upper}_FLAGS})
      add_custom_command(TARGET ${target} PRE_LINK VERBATIM
        COMMAND "${CMAKE_COMMAND}" "-DNM=${CMAKE_NM}"
          "-DOBJECTS=$<JOIN:$<TARGET_OBJECTS:vllm_cpu_${isa}>,$<COMMA>>"
          -P "${PROJECT_SOURCE_DIR}/cmake/check_isa_objects.cmake")
    else()
      message(WARNING "CPU kernels: ${isa} left out, the compiler does not know: ${flags}")
    endif()
  endforeach()
endfunction()

# vllm_link_cpu_kernels(TARGET): the same objects, compiled once, for one more target.
function(vllm_link_cpu_kernels target)
  foreach(isa IN ITEMS scalar avx2 avx512 amx)
    if(TARGET vllm_cpu_${isa})
      target_sources(${target} PRIVATE $<TARGET_OBJECTS:vllm_cpu_${isa}>)
      string(TOUPPER ${isa} upper)
      target_compile_definitions(${target} PRIVATE VLLM_HAVE_${upper}=1)
    endif()
  endforeach()
endfunction()
