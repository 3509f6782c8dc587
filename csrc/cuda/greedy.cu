// SPDX-License-Identifier: Apache-2.0
//
// Owns: the choice of the likeliest tokens with a word on whether they can be trusted. Must not know:
// what becomes of them, torch.
//
// Grid: one block per row. Block: up to 1024 threads. Blocks only ever write 1 to the word, which a
// launch before this one sets to 0.
#include "dispatch.cuh"
#include "logit_row.cuh"

namespace vllm_kernels::cuda {
namespace {

__global__ void trust_kernel(std::int64_t* suspect) {
  if (threadIdx.x == 0) *suspect = 0;
}

// Whether a sum over this row of hidden states is not finite; for all threads.
template <typename T>
__device__ bool has_infinite_sum(const T* hidden, int size) {
  float sum = 0.0f;
  for (int i = threadIdx.x; i < size; i += blockDim.x) sum += to_float(hidden[i]);
  return !isfinite(block_reduce(sum, Sum{}, 0.0f));
}

__device__ bool has_nan(const float* row, int vocab) {
  int count = 0;
  for (int id = threadIdx.x; id < vocab; id += blockDim.x) count += isnan(row[id]) ? 1 : 0;
  return block_reduce(count, Sum{}, 0) != 0;
}

// out: [rows]; hidden: [rows, size]; logits: [rows, vocab].
template <typename T>
__global__ void choose_greedy_kernel(std::int64_t* out, std::int64_t* suspect, Rows<const T> hidden,
                                     int size, Rows<const float> logits, int vocab) {
  const float* row = logits.row(blockIdx.x);
  const int best = row_argmax(row, vocab);
  bool doubtful = has_infinite_sum(hidden.row(blockIdx.x), size);
  if (blockIdx.x == 0) doubtful = has_nan(row, vocab) || doubtful;
  if (threadIdx.x != 0) return;
  out[blockIdx.x] = best;
  if (doubtful) *suspect = 1;
}

}  // namespace
}  // namespace vllm_kernels::cuda

using namespace vllm_kernels::cuda;

extern "C" cudaError_t vllm_cuda_choose_greedy(std::int64_t* out, std::int64_t* suspect,
                                               const void* hidden, std::int64_t hidden_stride,
                                               int hidden_size, int hidden_dtype,
                                               const float* logits, std::int64_t logits_stride,
                                               std::int64_t rows, int vocab, cudaStream_t stream) {
  VLLM_CUDA_LAUNCH(trust_kernel, dim3(1), dim3(kWarp), stream, suspect);
  if (rows == 0) return cudaGetLastError();
  return with_type(hidden_dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    VLLM_CUDA_LAUNCH(choose_greedy_kernel<T>, dim3(static_cast<unsigned>(rows)),
                     dim3(row_threads(vocab, 1)), stream, out, suspect,
                     rows_of<const T>(hidden, hidden_stride), hidden_size,
                     rows_of<const float>(logits, logits_stride), vocab);
    return cudaGetLastError();
  });
}
