// SPDX-License-Identifier: Apache-2.0
//
// Owns: reading a row of logits: argmax, log probabilities and ranks of given tokens, the k
// likeliest tokens. Must not know: how a token is chosen, torch.
//
// Grid: one block per row. Block: up to 1024 threads; thread i takes the logits i, i + block, ...
#include "dispatch.cuh"
#include "logit_row.cuh"

namespace vllm_kernels::cuda {
namespace {

// out: [rows]; logits: [rows, vocab].
__global__ void argmax_kernel(std::int64_t* out, Rows<const float> logits, int vocab) {
  const int best = row_argmax(logits.row(blockIdx.x), vocab);
  if (threadIdx.x == 0) out[blockIdx.x] = best;
}

// Logits above `logit`, for all threads.
__device__ int count_above(const float* row, int vocab, float logit) {
  int count = 0;
  for (int id = threadIdx.x; id < vocab; id += blockDim.x) count += row[id] > logit;
  return block_reduce(count, Sum{}, 0);
}

// logprobs, ranks, token_ids: [rows, per_row]; logits: [rows, vocab]. An id outside the
// vocabulary gives NaN and rank 0. One pass over the row per id.
__global__ void token_logprobs_kernel(float* logprobs, std::int64_t* ranks,
                                      Rows<const float> logits, const std::int64_t* token_ids,
                                      std::int64_t per_row, int vocab) {
  const float* row = logits.row(blockIdx.x);
  const Normalizer normalizer = row_normalizer(row, vocab);
  const std::int64_t begin = blockIdx.x * per_row;
  for (std::int64_t i = begin; i < begin + per_row; ++i) {
    const std::int64_t id = token_ids[i];
    const float logit = id >= 0 && id < vocab ? row[id] : NAN;
    const float logprob = normalizer.logprob(logit);
    const int above = count_above(row, vocab, logit);
    if (threadIdx.x == 0) {
      logprobs[i] = logprob;
      ranks[i] = isnan(logprob) ? 0 : 1 + above;
    }
  }
}

// The first of this thread's tokens that comes after `last`; NaN counts as -inf.
__device__ std::uint64_t best_below(const float* row, int vocab, std::uint64_t last) {
  std::uint64_t best = 0;
  for (int id = threadIdx.x; id < vocab; id += blockDim.x) {
    const std::uint64_t key = logit_key(isnan(row[id]) ? -INFINITY : row[id], id);
    if (key < last) best = Max{}(best, key);
  }
  return best;
}

// logprobs, token_ids: [rows, k], k <= vocab, in descending order. Each thread keeps its best
// token; k times the best of the block is taken, and only the thread that lost it looks again.
__global__ void topk_logprobs_kernel(float* logprobs, std::int64_t* token_ids,
                                     Rows<const float> logits, std::int64_t k, int vocab) {
  const float* row = logits.row(blockIdx.x);
  const Normalizer normalizer = row_normalizer(row, vocab);
  std::uint64_t mine = best_below(row, vocab, ~std::uint64_t{0});
  for (std::int64_t i = blockIdx.x * k; i < (blockIdx.x + 1) * k; ++i) {
    const std::uint64_t winner = block_reduce(mine, Max{}, std::uint64_t{0});
    if (mine != winner) continue;
    const float logit = row[key_id(winner)];
    logprobs[i] = normalizer.logprob(isnan(logit) ? -INFINITY : logit);
    token_ids[i] = key_id(winner);
    mine = best_below(row, vocab, winner);
  }
}

}  // namespace
}  // namespace vllm_kernels::cuda

using namespace vllm_kernels::cuda;

extern "C" cudaError_t vllm_cuda_argmax(std::int64_t* out, const float* logits,
                                        std::int64_t logits_stride, std::int64_t rows, int vocab,
                                        cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  VLLM_CUDA_LAUNCH(argmax_kernel, dim3(static_cast<unsigned>(rows)), dim3(row_threads(vocab, 1)),
                   stream, out, rows_of<const float>(logits, logits_stride), vocab);
  return cudaGetLastError();
}

extern "C" cudaError_t vllm_cuda_token_logprobs(float* logprobs, std::int64_t* ranks,
                                                const float* logits, std::int64_t logits_stride,
                                                const std::int64_t* token_ids, std::int64_t rows,
                                                std::int64_t per_row, int vocab,
                                                cudaStream_t stream) {
  if (rows == 0 || per_row == 0) return cudaSuccess;
  VLLM_CUDA_LAUNCH(token_logprobs_kernel, dim3(static_cast<unsigned>(rows)),
                   dim3(row_threads(vocab, 1)), stream, logprobs, ranks,
                   rows_of<const float>(logits, logits_stride), token_ids, per_row, vocab);
  return cudaGetLastError();
}

extern "C" cudaError_t vllm_cuda_topk_logprobs(float* logprobs, std::int64_t* token_ids,
                                               const float* logits, std::int64_t logits_stride,
                                               std::int64_t rows, std::int64_t k, int vocab,
                                               cudaStream_t stream) {
  if (rows == 0 || k == 0) return cudaSuccess;
  VLLM_CUDA_LAUNCH(topk_logprobs_kernel, dim3(static_cast<unsigned>(rows)),
                   dim3(row_threads(vocab, 1)), stream, logprobs, token_ids,
                   rows_of<const float>(logits, logits_stride), k, vocab);
  return cudaGetLastError();
}
