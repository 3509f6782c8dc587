// SPDX-License-Identifier: Apache-2.0

// From checked tensors to what the CUDA launchers take. Owns the device checks, the current device
// and the current stream; knows no kernel.
//
// Values on the device (positions, slots, block tables, token ids) can't be checked without waiting
// for the GPU, so they are not: the kernels' comments say what each does with a bad one.

#pragma once

#include <cuda_runtime_api.h>
#include <torch/csrc/stable/accelerator.h>

#include <climits>
#include <optional>

#include "bindings/check.h"
#include "cuda/ops.h"

namespace vllm_kernels {

struct Named {
  const char* name;
  const Tensor& tensor;
};

// Makes the tensors' device current while it lives. Construct it last: with it, an op has all
// arguments checked.
class Launch {
 public:
  // The tensors have to be on one CUDA device.
  Launch(const Check& check, std::initializer_list<Named> tensors);

  // torch's current stream of that device.
  cudaStream_t stream() const { return stream_; }

  // Raises what a launcher returned, unless it is cudaSuccess.
  void finish(cudaError_t error) const;

 private:
  const Check& check_;
  std::optional<torch::stable::accelerator::DeviceGuard> guard_;
  cudaStream_t stream_ = nullptr;
};

inline int dtype_number(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Half: return cuda::kFloat16;
    case ScalarType::BFloat16: return cuda::kBFloat16;
    default: return cuda::kFloat32;
  }
}

template <class T>
T* data_of(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

inline int as_int(const Check& check, int64_t value, const char* name) {
  check.in_range(value, name, 0, INT_MAX);
  return static_cast<int>(value);
}

// A [rows, columns] argument of one of the accepted types, rows at any distance.
inline void check_rows(const Check& check, const Tensor& t, const char* name,
                       std::initializer_list<ScalarType> accepted) {
  check.dtype(t, name, accepted);
  check.rows(t, name);
  check.in_range(t.size(0), "the number of rows", 0, INT_MAX);
  check.in_range(t.size(1), "the width of a row", 0, INT_MAX);
}

// A [rows, columns] argument of an activation type.
inline void check_activation(const Check& check, const Tensor& t, const char* name) {
  check_rows(check, t, name, {ScalarType::Float, ScalarType::Half, ScalarType::BFloat16});
}

// Kernels read it 16 bytes at a time.
inline void check_start16(const Check& check, const Tensor& t, const char* name) {
  check.require(reinterpret_cast<uintptr_t>(t.const_data_ptr()) % 16 == 0, name,
                " must start at a multiple of 16 bytes");
}

// A [rows, columns] argument like another one.
inline void check_like(const Check& check, const Tensor& t, const char* name, const Tensor& other) {
  check_rows(check, t, name, {other.scalar_type()});
  check.shape(t, name, {other.size(0), other.size(1)});
}

// A contiguous argument.
inline void check_plain(const Check& check, const Tensor& t, const char* name, ScalarType type,
                        std::initializer_list<int64_t> shape) {
  check.dtype(t, name, {type});
  check.shape(t, name, shape);
  check.contiguous(t, name);
}

}  // namespace vllm_kernels
