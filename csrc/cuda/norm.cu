// SPDX-License-Identifier: Apache-2.0
//
// Owns: RMSNorm (Zhang and Sennrich, 2019, arXiv:1910.07467), plain and fused with the residual
// addition. Must not know: torch, which layer it serves.
//
// Grid: one block per row. Block: 32 to 1024 threads; thread i takes the pieces i, i + block, ...
// of V elements. Row sums are float32 in a fixed order.
#include "dispatch.cuh"
#include "reduce.cuh"

namespace vllm_kernels::cuda {
namespace {

// Scales one row by 1/sqrt(mean of squares + eps) and by the weight. src may equal dst.
template <int V, typename T, typename W>
__device__ void scale_row(T* dst, const T* src, const W* weight, int hidden, float inverse_rms) {
  for (int i = threadIdx.x * V; i < hidden; i += blockDim.x * V) {
    float x[V], w[V];
    load_floats<V>(src + i, x);
    load_floats<V>(weight + i, w);
#pragma unroll
    for (int j = 0; j < V; ++j) x[j] = x[j] * inverse_rms * w[j];
    store_floats<V>(dst + i, x);
  }
}

template <int V>
__device__ float sum_squares(const float (&x)[V]) {
  float sum = 0.0f;
#pragma unroll
  for (int j = 0; j < V; ++j) sum += x[j] * x[j];
  return sum;
}

// out, x: [rows, hidden], rows a stride apart; weight: [hidden].
template <int V, typename T, typename W>
__global__ void rms_norm_kernel(Rows<T> out_rows, Rows<const T> x_rows, const W* weight,
                                int hidden, float eps) {
  T* out = out_rows.row(blockIdx.x);
  const T* x = x_rows.row(blockIdx.x);
  float sum = 0.0f;
  for (int i = threadIdx.x * V; i < hidden; i += blockDim.x * V) {
    float piece[V];
    load_floats<V>(x + i, piece);
    sum += sum_squares<V>(piece);
  }
  sum = block_reduce(sum, Sum{}, 0.0f);
  scale_row<V>(out, x, weight, hidden, rsqrtf(sum / hidden + eps));
}

// x, residual: [rows, hidden], rows a stride apart; weight: [hidden]. The norm is taken of the
// residual as stored (rounded to T), so that the fused call equals an addition followed by
// rms_norm. Each thread reads back only elements that it wrote, so no barrier is needed for them.
template <int V, typename T, typename W>
__global__ void fused_add_rms_norm_kernel(Rows<T> x_rows, Rows<T> residual_rows, const W* weight,
                                          int hidden, float eps) {
  T* x = x_rows.row(blockIdx.x);
  T* residual = residual_rows.row(blockIdx.x);
  float sum = 0.0f;
  for (int i = threadIdx.x * V; i < hidden; i += blockDim.x * V) {
    float a[V], b[V];
    load_floats<V>(x + i, a);
    load_floats<V>(residual + i, b);
#pragma unroll
    for (int j = 0; j < V; ++j) a[j] = to_float(from_float<T>(a[j] + b[j]));
    store_floats<V>(residual + i, a);
    sum += sum_squares<V>(a);
  }
  sum = block_reduce(sum, Sum{}, 0.0f);
  scale_row<V>(x, residual, weight, hidden, rsqrtf(sum / hidden + eps));
}

template <typename T, typename W>
cudaError_t launch_rms_norm(Rows<T> out, Rows<const T> x, const W* weight, std::int64_t rows,
                            int hidden, float eps, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(rows));
  if (takes_pieces(out, hidden) && takes_pieces(x, hidden) && is_aligned16(weight)) {
    VLLM_CUDA_LAUNCH((rms_norm_kernel<kPiece, T, W>), grid, dim3(row_threads(hidden, kPiece)),
                     stream, out, x, weight, hidden, eps);
  } else {
    VLLM_CUDA_LAUNCH((rms_norm_kernel<1, T, W>), grid, dim3(row_threads(hidden, 1)), stream, out,
                     x, weight, hidden, eps);
  }
  return cudaGetLastError();
}

template <typename T, typename W>
cudaError_t launch_fused_add(Rows<T> x, Rows<T> residual, const W* weight, std::int64_t rows,
                             int hidden, float eps, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(rows));
  if (takes_pieces(x, hidden) && takes_pieces(residual, hidden) && is_aligned16(weight)) {
    VLLM_CUDA_LAUNCH((fused_add_rms_norm_kernel<kPiece, T, W>), grid,
                     dim3(row_threads(hidden, kPiece)), stream, x, residual, weight, hidden, eps);
  } else {
    VLLM_CUDA_LAUNCH((fused_add_rms_norm_kernel<1, T, W>), grid, dim3(row_threads(hidden, 1)),
                     stream, x, residual, weight, hidden, eps);
  }
  return cudaGetLastError();
}

// Weights have the activations' type or float32.
template <typename T, typename Body>
cudaError_t with_weight_type(int dtype, int weight_dtype, Body body) {
  if (weight_dtype == kFloat32) return body(Type<float>{});
  return weight_dtype == dtype ? body(Type<T>{}) : cudaErrorInvalidValue;
}

}  // namespace
}  // namespace vllm_kernels::cuda

using namespace vllm_kernels::cuda;

extern "C" cudaError_t vllm_cuda_rms_norm(void* out, std::int64_t out_stride, const void* x,
                                          std::int64_t x_stride, const void* weight,
                                          std::int64_t rows, int hidden, float eps, int dtype,
                                          int weight_dtype, cudaStream_t stream) {
  if (rows == 0 || hidden == 0) return cudaSuccess;
  return with_type(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    return with_weight_type<T>(dtype, weight_dtype, [&](auto weight_type) {
      using W = typename decltype(weight_type)::type;
      return launch_rms_norm<T>(rows_of<T>(out, out_stride), rows_of<const T>(x, x_stride),
                                static_cast<const W*>(weight), rows, hidden, eps, stream);
    });
  });
}

extern "C" cudaError_t vllm_cuda_fused_add_rms_norm(void* x, std::int64_t x_stride, void* residual,
                                                    std::int64_t residual_stride,
                                                    const void* weight, std::int64_t rows,
                                                    int hidden, float eps, int dtype,
                                                    int weight_dtype, cudaStream_t stream) {
  if (rows == 0 || hidden == 0) return cudaSuccess;
  return with_type(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    return with_weight_type<T>(dtype, weight_dtype, [&](auto weight_type) {
      using W = typename decltype(weight_type)::type;
      return launch_fused_add<T>(rows_of<T>(x, x_stride), rows_of<T>(residual, residual_stride),
                                 static_cast<const W*>(weight), rows, hidden, eps, stream);
    });
  });
}
