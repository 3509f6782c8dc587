// SPDX-License-Identifier: Apache-2.0
//
// Owns: the instruction of the tensor cores and those that bring its operands. Must not know: what is
// multiplied.
//
// mma.m16n8k16 (PTX, sm_80 and newer), as held by lane 4 g + t of a warp, two bfloat16 per register:
//
//   a [16, 16]   a[0] row g, columns 2 t and 2 t + 1    a[2] row g, columns 2 t + 8 and 2 t + 9
//                a[1] row g + 8, the same columns       a[3] row g + 8, likewise
//   b [16, 8]    b[0] column g, rows 2 t and 2 t + 1    b[1] column g, rows 2 t + 8 and 2 t + 9
//   d [16, 8]    d[0], d[1] row g, columns 2 t and 2 t + 1    d[2], d[3] row g + 8
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>

namespace vllm_kernels::cuda {

// d += a b. All lanes of the warp call it. Products are exact, sums are float32 in the order of the
// hardware, which depends on the row of a and the column of b alone.
__device__ inline void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                           __nv_bfloat16) {
#ifdef VLLM_CUDA_EMULATION
  emulation::mma(d, a, b, [](unsigned bits) { return __uint_as_float(bits << 16); });
#else
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// The same of float16 operands.
__device__ inline void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], __half) {
#ifdef VLLM_CUDA_EMULATION
  emulation::mma(d, a, b, [](unsigned bits) {
    const unsigned short low = static_cast<unsigned short>(bits);
    __half value;
    std::memcpy(&value, &low, sizeof(value));
    return __half2float(value);
  });
#else
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// Four matrices of 8 x 8 numbers of 16 bits: row l % 8 of matrix l / 8 starts at lane l's `row`, in shared
// memory, at a multiple of 16 bytes. Lane 4 g + t gets in m[i] the elements 2 t and 2 t + 1 of row g of
// matrix i, or of its column g (transposed).
template <bool TRANSPOSED>
__device__ inline void load_matrices(unsigned (&m)[4], const void* row) {
#ifdef VLLM_CUDA_EMULATION
  emulation::load_matrices(m, row, TRANSPOSED);
#else
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  if constexpr (TRANSPOSED) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(address)
                 : "memory");
  }
#endif
}

// The bits of a value of 4 bytes.
template <typename T>
__host__ __device__ inline unsigned bits_of(T pair) {
  static_assert(sizeof(T) == sizeof(unsigned));
  unsigned bits;
  memcpy(&bits, &pair, sizeof(bits));
  return bits;
}

// Two neighbours in one register, the first in the low half, rounded to nearest even.
__device__ inline unsigned pack(float low, float high, __nv_bfloat16) {
  return bits_of(__floats2bfloat162_rn(low, high));
}
__device__ inline unsigned pack(float low, float high, __half) {
  return bits_of(__floats2half2_rn(low, high));
}

}  // namespace vllm_kernels::cuda
