// SPDX-License-Identifier: Apache-2.0
//
// Owns: what is done to each element by itself: the soft cap, a product with one number, copies of
// heads to another place. Must not know: what the elements are, torch.
//
// Grid: ceil(elements / 256) blocks. Block: 256 threads, an element each.
#include "dispatch.cuh"

namespace vllm_kernels::cuda {
namespace {

constexpr int kThreads = 256;

__device__ std::int64_t element_index() {
  return static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
}

dim3 grid_for(std::int64_t elements) {
  return dim3(static_cast<unsigned>(divide_up(elements, kThreads)));
}

struct SoftCap {
  float cap;
  __device__ float operator()(float x) const { return cap * tanhf(x / cap); }
};

struct Scale {
  float factor;
  __device__ float operator()(float x) const { return x * factor; }
};

// x: [rows, width].
template <typename Function, typename T>
__global__ void in_place_kernel(Rows<T> x, std::int64_t rows, std::int64_t width,
                                Function function) {
  const std::int64_t i = element_index();
  if (i >= rows * width) return;
  T* item = x.row(i / width) + i % width;
  *item = from_float<T>(function(to_float(*item)));
}

template <typename Function>
cudaError_t in_place(void* x, std::int64_t stride, std::int64_t rows, std::int64_t width,
                     Function function, int dtype, cudaStream_t stream) {
  if (rows == 0 || width == 0) return cudaSuccess;
  return with_type(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    VLLM_CUDA_LAUNCH((in_place_kernel<Function, T>), grid_for(rows * width), dim3(kThreads), stream,
                     rows_of<T>(x, stride), rows, width, function);
    return cudaGetLastError();
  });
}

// Heads `row` and `head` elements apart.
template <typename T>
struct Heads {
  T* data;
  std::int64_t row;
  std::int64_t head;
};

// out, x: [rows, heads, width].
template <typename T>
__global__ void copy_heads_kernel(Heads<T> out, Heads<const T> x, std::int64_t rows, int heads,
                                  int width) {
  const std::int64_t i = element_index();
  const std::int64_t row = i / width / heads;
  if (row >= rows) return;
  const std::int64_t head = i / width % heads, column = i % width;
  out.data[row * out.row + head * out.head + column] = x.data[row * x.row + head * x.head + column];
}

}  // namespace
}  // namespace vllm_kernels::cuda

using namespace vllm_kernels::cuda;

extern "C" cudaError_t vllm_cuda_soft_cap(void* x, std::int64_t stride, std::int64_t rows,
                                          std::int64_t width, float cap, int dtype,
                                          cudaStream_t stream) {
  return in_place(x, stride, rows, width, SoftCap{cap}, dtype, stream);
}

extern "C" cudaError_t vllm_cuda_scale(void* x, std::int64_t stride, std::int64_t rows,
                                       std::int64_t width, float factor, int dtype,
                                       cudaStream_t stream) {
  return in_place(x, stride, rows, width, Scale{factor}, dtype, stream);
}

extern "C" cudaError_t vllm_cuda_copy_heads(void* out, std::int64_t out_row, std::int64_t out_head,
                                            const void* x, std::int64_t x_row, std::int64_t x_head,
                                            std::int64_t rows, int heads, int width, int dtype,
                                            cudaStream_t stream) {
  if (rows == 0 || heads == 0 || width == 0) return cudaSuccess;
  return with_type(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    VLLM_CUDA_LAUNCH(copy_heads_kernel<T>, grid_for(rows * heads * width), dim3(kThreads), stream,
                     Heads<T>{static_cast<T*>(out), out_row, out_head},
                     Heads<const T>{static_cast<const T*>(x), x_row, x_head}, rows, heads, width);
    return cudaGetLastError();
  });
}
