// SPDX-License-Identifier: Apache-2.0
//
// Owns: copies from device to shared memory that pass by the registers (cp.async, sm_80 and newer). Must
// not know: what is copied.
//
// Copies belong to the group that the next end_copies() closes. wait_for_copies<N>() waits for the
// thread's own copies, all but the N last groups; a barrier then shows them to the others.
#pragma once

#include <cstring>

namespace vllm_kernels::cuda {

// 16 bytes, both ends at a multiple of 16; zeros instead where nothing `exists` at `from`.
__device__ inline void copy_piece(void* to, const void* from, bool exists) {
#ifdef VLLM_CUDA_EMULATION
  if (exists) {
    std::memcpy(to, from, 16);
  } else {
    std::memset(to, 0, 16);
  }
#else
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(address), "l"(from), "r"(exists ? 16 : 0)
               : "memory");
#endif
}

__device__ inline void end_copies() {
#ifndef VLLM_CUDA_EMULATION
  asm volatile("cp.async.commit_group;" : : : "memory");
#endif
}

template <int N>
__device__ inline void wait_for_copies() {
#ifndef VLLM_CUDA_EMULATION
  asm volatile("cp.async.wait_group %0;" : : "n"(N) : "memory");
#endif
}

}  // namespace vllm_kernels::cuda
