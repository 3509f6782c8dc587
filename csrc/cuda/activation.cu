// SPDX-License-Identifier: Apache-2.0
//
// Owns: the gated activations of feed-forward layers, SwiGLU and GeGLU (Shazeer, 2020,
// arXiv:2002.05202). Must not know: the matrix products around them, torch.
//
// Grid: ceil(rows * width / (256 * V)) blocks. Block: 256 threads, V elements each; V = 8 where
// rows and pointers are 16-byte aligned, else 1.
#include "dispatch.cuh"

namespace vllm_kernels::cuda {
namespace {

constexpr int kThreads = 256;

struct Silu {
  __device__ float operator()(float x) const { return x / (1.0f + expf(-x)); }
};

// By tanh (Hendrycks and Gimpel, 2016, arXiv:1606.08415).
struct GeluTanh {
  __device__ float operator()(float x) const {
    constexpr float kRoot = 0.7978845608f;  // sqrt(2 / pi)
    return 0.5f * x * (1.0f + tanhf(kRoot * (x + 0.044715f * x * x * x)));
  }
};

// out: [rows, width]; x: [rows, 2 * width], gate half then up half; rows a stride apart.
template <typename Activation, int V, typename T>
__global__ void gated_kernel(Rows<T> out, Rows<const T> x, std::int64_t rows,
                                    std::int64_t width) {
  const std::int64_t start =
      (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * V;
  const std::int64_t row = start / width;
  const std::int64_t column = start % width;
  if (row >= rows) return;
  float gate[V], up[V];
  load_floats<V>(x.row(row) + column, gate);
  load_floats<V>(x.row(row) + width + column, up);
#pragma unroll
  for (int j = 0; j < V; ++j) gate[j] = Activation{}(gate[j]) * up[j];
  store_floats<V>(out.row(row) + column, gate);
}

template <typename Activation, int V, typename T>
cudaError_t launch(Rows<T> out, Rows<const T> x, std::int64_t rows, std::int64_t width,
                   cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(divide_up(rows * width, kThreads * V)));
  VLLM_CUDA_LAUNCH((gated_kernel<Activation, V, T>), grid, dim3(kThreads), stream, out, x, rows,
                   width);
  return cudaGetLastError();
}

template <typename Activation>
cudaError_t gated(void* out, std::int64_t out_stride, const void* x, std::int64_t x_stride,
                  std::int64_t rows, std::int64_t width, int dtype, cudaStream_t stream) {
  if (rows == 0 || width == 0) return cudaSuccess;
  return with_type(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    const auto target = rows_of<T>(out, out_stride);
    const auto source = rows_of<const T>(x, x_stride);
    return takes_pieces(target, width) && takes_pieces(source, width)
               ? launch<Activation, kPiece, T>(target, source, rows, width, stream)
               : launch<Activation, 1, T>(target, source, rows, width, stream);
  });
}

}  // namespace
}  // namespace vllm_kernels::cuda

using namespace vllm_kernels::cuda;

extern "C" cudaError_t vllm_cuda_silu_and_mul(void* out, std::int64_t out_stride, const void* x,
                                              std::int64_t x_stride, std::int64_t rows,
                                              std::int64_t width, int dtype,
                                              cudaStream_t stream) {
  return gated<Silu>(out, out_stride, x, x_stride, rows, width, dtype, stream);
}

extern "C" cudaError_t vllm_cuda_gelu_tanh_and_mul(void* out, std::int64_t out_stride,
                                                   const void* x, std::int64_t x_stride,
                                                   std::int64_t rows, std::int64_t width,
                                                   int dtype, cudaStream_t stream) {
  return gated<GeluTanh>(out, out_stride, x, x_stride, rows, width, dtype, stream);
}
