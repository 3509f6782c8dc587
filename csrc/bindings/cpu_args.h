// SPDX-License-Identifier: Apache-2.0

// From checked tensors to the pointers and strides that CPU ops take.
//
// What depends on a tensor's dtype, shape and strides is checked when an op is called; what depends
// on its elements (ids, positions, slots, block tables) is checked inside `perform`, each time that
// the call is made.

#pragma once

#include "bindings/check.h"
#include "cpu/ops.h"
#include "cpu/recording.h"

namespace vllm_kernels {

inline Rows rows_of(const Tensor& t) {
  return {static_cast<float*>(t.mutable_data_ptr()), t.stride(0)};
}

inline ConstRows const_rows_of(const Tensor& t) {
  return {static_cast<const float*>(t.const_data_ptr()), t.stride(0)};
}

template <class T>
const T* data_of(const Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}

inline DType dense_type(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Half: return DType::kF16;
    case ScalarType::BFloat16: return DType::kBF16;
    default: return DType::kF32;
  }
}

// A [rows, columns] f32 argument on the CPU.
inline void check_f32_rows(const Check& check, const Tensor& t, const char* name) {
  check.cpu(t, name);
  check.dtype(t, name, {ScalarType::Float});
  check.rows(t, name);
}

// For ops whose call does not make sense a second time, or allocates.
inline void refuse_recording(const Check& check) {
  check.require(!is_recording(), "this op cannot be part of a recording");
}

// A contiguous argument on the CPU.
inline void check_plain(const Check& check, const Tensor& t, const char* name, ScalarType type,
                        std::initializer_list<int64_t> shape) {
  check.cpu(t, name);
  check.dtype(t, name, {type});
  check.shape(t, name, shape);
  check.contiguous(t, name);
}

}  // namespace vllm_kernels
