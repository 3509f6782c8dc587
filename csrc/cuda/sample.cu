// SPDX-License-Identifier: Apache-2.0
//
// Owns: drawing a token: temperature, min-p, top-k and top-p (Holtzman et al., 2019,
// arXiv:1904.09751) without sorting. Must not know: where the random number comes from, torch.
//
// A token's weight is w = exp((logit - max) / temperature), in (0, 1]. Tokens are ordered by a key
// of weight and id, and every filter keeps the tokens with key >= some threshold, so a filter is a
// search for its threshold. Sums of weights are taken in fixed point, w * 2^44 rounded down: with a
// vocabulary of at most 2^19 they stay within 2^63, integer sums do not depend on the order, and so
// the result is the same for every block size. Tokens with w < 2^-44 = 5.7e-14 are never drawn.
//
// Grid: one block per row. Block: up to 1024 threads; thread i takes the logits i, i + block, ...
#include "dispatch.cuh"
#include "logit_row.cuh"

namespace vllm_kernels::cuda {
namespace {

constexpr float kFixedOne = 0x1p44f;

// A weight is at most 1 = 0x3f800000, 30 bits; ids take 20 bits below it: keys have 50 bits.
constexpr int kIdBits = 20;
static_assert(kMaxVocab <= 1 << 19, "fixed-point sums and keys are laid out for this");

// 7 probes cut the range of keys to an eighth per pass over the row: about 17 passes for 50 bits.
constexpr int kProbes = 7;

struct Row {
  const float* logits;
  int vocab;
  float max;
  float inverse_temperature;

  // NaN has weight 0.
  __device__ float weight(int id) const {
    const float w = expf((logits[id] - max) * inverse_temperature);
    return isnan(w) ? 0.0f : w;
  }
};

// Larger for the token that comes first. Weight 0 gives a key below kLowestKey.
__device__ std::uint64_t weight_key(float weight, int id) {
  const std::uint64_t inverted_id = (1u << kIdBits) - 1 - static_cast<unsigned>(id);
  return static_cast<std::uint64_t>(__float_as_uint(weight)) << kIdBits | inverted_id;
}

constexpr std::uint64_t kLowestKey = std::uint64_t{1} << kIdBits;

struct CountTokens {
  __device__ std::uint64_t operator()(float) const { return 1; }
};

struct SumWeights {
  __device__ std::uint64_t operator()(float weight) const {
    return static_cast<std::uint64_t>(weight * kFixedOne);
  }
};

// Sums `measure` over the tokens with key >= probe[n], for each n and for all threads.
template <int N, typename Measure>
__device__ void measure_above(std::uint64_t (&sum)[N], const std::uint64_t (&probe)[N],
                              const Row& row, Measure measure) {
#pragma unroll
  for (int n = 0; n < N; ++n) sum[n] = 0;
  for (int id = threadIdx.x; id < row.vocab; id += blockDim.x) {
    const float weight = row.weight(id);
    const std::uint64_t key = weight_key(weight, id);
    const std::uint64_t amount = measure(weight);
#pragma unroll
    for (int n = 0; n < N; ++n) sum[n] += key >= probe[n] ? amount : 0;
  }
  block_sums(sum);
}

template <typename Measure>
__device__ std::uint64_t measure_from(std::uint64_t threshold, const Row& row, Measure measure) {
  const std::uint64_t probe[1] = {threshold};
  std::uint64_t sum[1];
  measure_above(sum, probe, row, measure);
  return sum[0];
}

// The largest threshold in [low, high] from which on the measure reaches `wanted`; `low` does.
template <typename Measure>
__device__ std::uint64_t find_threshold(std::uint64_t low, std::uint64_t high,
                                        std::uint64_t wanted, const Row& row, Measure measure) {
  while (low < high) {
    // kProbes + 1 ranges of `step` keys, the last one possibly shorter, cover [low, high].
    const std::uint64_t step = (high - low) / (kProbes + 1) + 1;
    std::uint64_t probe[kProbes], sum[kProbes];
#pragma unroll
    for (int n = 0; n < kProbes; ++n) probe[n] = low + step * (n + 1);
    measure_above(sum, probe, row, measure);
    std::uint64_t next_low = low;
    std::uint64_t next_high = high;
#pragma unroll
    for (int n = 0; n < kProbes; ++n) {
      const bool reaches = sum[n] >= wanted && probe[n] <= high;
      if (reaches) next_low = probe[n];
      if (!reaches) next_high = min(next_high, probe[n] - 1);
    }
    low = next_low;
    high = next_high;
  }
  return low;
}

struct Filters {
  int top_k;    // <= 0: off
  float top_p;  // >= 1: off
  float min_p;  // <= 0: off
};

// Tokens with key >= the result are kept: first min-p, of those top-k, of those top-p.
__device__ std::uint64_t filter(const Row& row, const Filters& filters, std::uint64_t highest) {
  std::uint64_t low = kLowestKey;
  if (filters.min_p > 0.0f) {
    const float floor = fminf(filters.min_p, 1.0f);
    low = max(low, static_cast<std::uint64_t>(__float_as_uint(floor)) << kIdBits);
  }
  if (filters.top_k > 0) {
    const std::uint64_t wanted = filters.top_k;
    if (wanted < measure_from(low, row, CountTokens{})) {
      low = find_threshold(low, highest, wanted, row, CountTokens{});
    }
  }
  if (filters.top_p < 1.0f) {
    const std::uint64_t total = measure_from(low, row, SumWeights{});
    const double share = ceil(static_cast<double>(total) * filters.top_p);
    const std::uint64_t wanted = share < 1.0 ? 1 : static_cast<std::uint64_t>(share);
    low = find_threshold(low, highest, wanted, row, SumWeights{});
  }
  return low;
}

// Inverse of the cumulative distribution over ascending ids, for the tokens from `threshold` on:
// the first id at which the running sum exceeds uniform * total. Written by the thread that has it.
__device__ void pick(std::int64_t* out, const Row& row, std::uint64_t threshold, double uniform) {
  const std::uint64_t total = measure_from(threshold, row, SumWeights{});
  const auto scaled = static_cast<std::uint64_t>(uniform * static_cast<double>(total));
  const std::uint64_t wanted = min(scaled, total - 1);  // a total above 2^53 may round up
  std::uint64_t before = 0;
  for (int first = 0; first < row.vocab && before <= wanted; first += blockDim.x) {
    const int id = first + threadIdx.x;
    const float weight = id < row.vocab ? row.weight(id) : 0.0f;
    const bool kept = id < row.vocab && weight_key(weight, id) >= threshold;
    const std::uint64_t own = kept ? SumWeights{}(weight) : 0;
    std::uint64_t tile_total;
    const std::uint64_t through = before + block_inclusive_sum(own, tile_total);
    if (through > wanted && through - own <= wanted) *out = id;
    before += tile_total;
  }
}

struct Sampling {
  const float* temperature;   // [rows]; <= 0: the likeliest token
  const std::int32_t* top_k;  // [rows]
  const float* top_p;         // [rows]
  const float* min_p;         // [rows]
  const double* uniform;      // [rows], in [0, 1)
};

// out: [rows]; logits: [rows, vocab].
__global__ void sample_kernel(std::int64_t* out, Rows<const float> logits, Sampling args,
                              int vocab) {
  const int index = blockIdx.x;
  const float* values = logits.row(index);
  const int likeliest = row_argmax(values, vocab);
  const float largest = values[likeliest];
  const float temperature = args.temperature[index];
  const float inverse = 1.0f / temperature;
  if (temperature <= 0.0f || !isfinite(inverse) || args.top_k[index] == 1 || !isfinite(largest)) {
    if (threadIdx.x == 0) out[index] = likeliest;
    return;
  }
  const Row row{values, vocab, largest, inverse};
  const Filters filters{args.top_k[index], args.top_p[index], args.min_p[index]};
  const std::uint64_t threshold = filter(row, filters, weight_key(1.0f, 0));
  pick(out + index, row, threshold, args.uniform[index]);
}

}  // namespace
}  // namespace vllm_kernels::cuda

using namespace vllm_kernels::cuda;

extern "C" cudaError_t vllm_cuda_sample(std::int64_t* out, const float* logits,
                                        std::int64_t logits_stride, const float* temperature,
                                        const std::int32_t* top_k, const float* top_p,
                                        const float* min_p, const double* uniform,
                                        std::int64_t rows, int vocab, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  if (vocab > kMaxVocab) return cudaErrorInvalidValue;
  const Sampling args{temperature, top_k, top_p, min_p, uniform};
  VLLM_CUDA_LAUNCH(sample_kernel, dim3(static_cast<unsigned>(rows)), dim3(row_threads(vocab, 1)),
                   stream, out, rows_of<const float>(logits, logits_stride), args, vocab);
  return cudaGetLastError();
}
