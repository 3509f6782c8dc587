// SPDX-License-Identifier: Apache-2.0
//
// Owns: changing single logits: biases and the repetition (Keskar et al., 2019,
// arXiv:1909.05858), frequency and presence penalties. Must not know: where the counts come from,
// torch.
#include "dispatch.cuh"

namespace vllm_kernels::cuda {
namespace {

constexpr int kThreads = 256;

// logits: [rows, vocab]; row_ids, token_ids, bias: [entries]. Grid: ceil(entries / 256) blocks,
// one entry per thread. Atomic, because an entry may occur twice; one outside of the logits is
// skipped, since writing there would destroy memory.
__global__ void logit_bias_kernel(Rows<float> logits, const std::int64_t* row_ids,
                                  const std::int64_t* token_ids, const float* bias,
                                  std::int64_t entries, std::int64_t rows, std::int64_t vocab) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= entries) return;
  const std::int64_t row = row_ids[i];
  const std::int64_t id = token_ids[i];
  if (row < 0 || row >= rows || id < 0 || id >= vocab) return;
  atomicAdd(logits.row(row) + id, bias[i]);
}

struct Penalties {
  const std::int64_t* token_ids;      // [entries]
  const std::int32_t* output_counts;  // [entries], occurrences in the output
  const bool* in_prompt;              // [entries]
  const std::int64_t* row_offsets;    // [rows + 1], into the entries
  const float* repetition;            // [rows]
  const float* frequency;             // [rows]
  const float* presence;              // [rows]
};

__device__ float penalized(float logit, int count, bool in_prompt, const Penalties& args,
                           int row) {
  const float repetition = args.repetition[row];
  if (count > 0 || in_prompt) logit = logit > 0.0f ? logit / repetition : logit * repetition;
  if (count > 0) logit -= args.frequency[row] * static_cast<float>(count) + args.presence[row];
  return logit;
}

// logits: [rows, vocab]. Grid: one block per row, 256 threads over the row's entries; ids are
// distinct within a row, so no two threads touch one logit.
__global__ void penalties_kernel(Rows<float> logits, Penalties args, std::int64_t vocab) {
  const int row = blockIdx.x;
  const std::int64_t end = args.row_offsets[row + 1];
  for (std::int64_t i = args.row_offsets[row] + threadIdx.x; i < end; i += kThreads) {
    const std::int64_t id = args.token_ids[i];
    if (id < 0 || id >= vocab) continue;
    float& logit = logits.row(row)[id];
    logit = penalized(logit, args.output_counts[i], args.in_prompt[i], args, row);
  }
}

}  // namespace
}  // namespace vllm_kernels::cuda

using namespace vllm_kernels::cuda;

extern "C" cudaError_t vllm_cuda_apply_logit_bias(float* logits, std::int64_t logits_stride,
                                                  const std::int64_t* row_ids,
                                                  const std::int64_t* token_ids,
                                                  const float* bias, std::int64_t entries,
                                                  std::int64_t rows, std::int64_t vocab,
                                                  cudaStream_t stream) {
  if (entries == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(divide_up(entries, kThreads)));
  VLLM_CUDA_LAUNCH(logit_bias_kernel, grid, dim3(kThreads), stream,
                   rows_of<float>(logits, logits_stride), row_ids, token_ids, bias, entries, rows,
                   vocab);
  return cudaGetLastError();
}

extern "C" cudaError_t vllm_cuda_apply_penalties(
    float* logits, std::int64_t logits_stride, const std::int64_t* token_ids,
    const std::int32_t* output_counts, const bool* in_prompt, const std::int64_t* row_offsets,
    const float* repetition, const float* frequency, const float* presence, std::int64_t rows,
    std::int64_t vocab, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  const Penalties args{token_ids,  output_counts, in_prompt, row_offsets,
                       repetition, frequency,     presence};
  VLLM_CUDA_LAUNCH(penalties_kernel, dim3(static_cast<unsigned>(rows)), dim3(kThreads), stream,
                   rows_of<float>(logits, logits_stride), args, vocab);
  return cudaGetLastError();
}
