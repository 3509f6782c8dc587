// SPDX-License-Identifier: Apache-2.0

// Checks of quantized matrices, shared by the CPU and the CUDA bindings.

#pragma once

#include "bindings/check.h"

namespace vllm_kernels {

constexpr const char* kAcceptedQTypes =
    "2 (Q4_0), 3 (Q4_1), 6 (Q5_0), 7 (Q5_1), 8 (Q8_0), 12 (Q4_K), 13 (Q5_K) or 14 (Q6_K)";

inline void check_qtype(const Check& check, int64_t qtype) {
  check.require(is_quantized(qtype), "qtype is ", qtype, ", expected ", kAcceptedQTypes);
}

inline void check_matrix(const Check& check, int64_t qtype, int64_t n, int64_t k) {
  check_qtype(check, qtype);
  const int64_t columns = block_format(qtype).columns;
  check.in_range(n, "n", 1, int64_t{1} << 31);
  check.in_range(k, "k", columns, int64_t{1} << 31);
  check.require(k % columns == 0, "k is ", k, ", expected a multiple of ", columns);
}

// Bytes of `elements` elements in whole blocks.
inline int64_t raw_bytes(int64_t qtype, int64_t elements) {
  const BlockFormat format = block_format(qtype);
  return elements / format.columns * format.bytes;
}

inline void check_byte_count(const Check& check, const Tensor& t, const char* name,
                             int64_t expected) {
  check.dtype(t, name, {ScalarType::Byte});
  check.contiguous(t, name);
  check.require(t.numel() == expected, name, " has ", t.numel(), " bytes, expected ", expected);
}

inline void check_coarse(const Check& check, int64_t coarse, int64_t n) {
  check.in_range(coarse, "coarse", 0, n);
  check.require(coarse % kTileRows == 0 || coarse == n, "coarse is ", coarse,
                ", expected a multiple of ", kTileRows, " or n");
}

inline void check_whole_blocks(const Check& check, int64_t qtype, int64_t elements) {
  const int64_t columns = block_format(qtype).columns;
  check.require(elements % columns == 0, "out has ", elements, " elements, expected a multiple of ",
                columns);
}

inline void check_whole_rows(const Check& check, int64_t qtype, const Tensor& out) {
  const int64_t columns = block_format(qtype).columns;
  check.require(out.size(1) % columns == 0, "out has shape ", Check::sizes_text(out),
                ", its second size must be a multiple of ", columns);
}

inline ScalarType dense_scalar_type(const Check& check, int64_t qtype) {
  check.require(qtype == kGgmlF32 || qtype == kGgmlF16 || qtype == kGgmlBF16, "qtype is ", qtype,
                ", expected 0 (F32), 1 (F16), 30 (BF16), ", kAcceptedQTypes);
  if (qtype == kGgmlF32) return ScalarType::Float;
  return qtype == kGgmlF16 ? ScalarType::Half : ScalarType::BFloat16;
}

}  // namespace vllm_kernels
