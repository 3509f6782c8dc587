// SPDX-License-Identifier: Apache-2.0
//
// Owns: widening quantized weights: GGUF blocks, all of them in order or the rows of a table that are
// asked for, and matrices repacked for quant_linear. Must not know: what the numbers mean, torch.
//
// Grid: x = rows, or pieces of a flat tensor or matrix. Block: 256 threads. Of GGUF blocks a thread
// takes one element at a time: neighbours share their block's bytes, which come from the cache.
#include "dispatch.cuh"
#include "ggml_blocks.cuh"
#include "packed_weights.cuh"

namespace vllm_kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPerThread = 8;

// out: [count].
template <int Q, typename T>
__global__ void dequantize_kernel(T* out, const std::uint8_t* raw, std::int64_t count) {
  std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads * kPerThread + threadIdx.x;
  for (int j = 0; j < kPerThread && i < count; ++j, i += kThreads) {
    const std::uint8_t* block = raw + i / Block<Q>::kColumns * Block<Q>::kBytes;
    out[i] = from_float<T>(block_weight<Q>(block, static_cast<int>(i % Block<Q>::kColumns)));
  }
}

// out: [tokens, hidden]; ids: [tokens]; raw: [vocab, bytes of a row]. An id outside of the table gives
// NaN.
template <int Q, typename T>
__global__ void embedding_kernel(Rows<T> out, const std::int64_t* ids, const std::uint8_t* raw,
                                 std::int64_t vocab, int hidden) {
  constexpr int kColumns = Block<Q>::kColumns;
  const std::int64_t id = ids[blockIdx.x];
  const bool exists = id >= 0 && id < vocab;
  const std::uint8_t* row = raw + (exists ? id : 0) * (hidden / kColumns * Block<Q>::kBytes);
  for (int i = threadIdx.x; i < hidden; i += kThreads) {
    const std::uint8_t* block = row + i / kColumns * Block<Q>::kBytes;
    out.row(blockIdx.x)[i] = from_float<T>(exists ? block_weight<Q>(block, i % kColumns) : NAN);
  }
}

// The same of a dense table [vocab, hidden].
template <typename S, typename T>
__global__ void dense_embedding_kernel(Rows<T> out, const std::int64_t* ids, const S* table,
                                       std::int64_t vocab, int hidden) {
  const std::int64_t id = ids[blockIdx.x];
  const bool exists = id >= 0 && id < vocab;
  const S* row = table + (exists ? id : 0) * hidden;
  for (int i = threadIdx.x; i < hidden; i += kThreads) {
    out.row(blockIdx.x)[i] = from_float<T>(exists ? to_float(row[i]) : NAN);
  }
}

// Row `row` (0 or 1 of a lane's two) and half `half` of a run: columns 4 t ... 4 t + 3 of that half.
template <int Q, typename T>
__device__ Vec<T, 4> four_weights(const RawRun<Q>& raw, int row, int half) {
  const RunScales scales = scales_of(raw, row);
  const unsigned quants = quants_of(raw, row, half);
  Vec<T, 4> weights;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int quant = static_cast<int>(quants >> (8 * i) & 255) - Packed<Q>::kMiddle;
    weights.item[i] = from_float<T>(scales.scale[half] * quant + scales.minimum);
  }
  return weights;
}

// out: [n, k]. A warp takes a run of 32 columns of 16 rows, as quant_linear's warps do; of each row its
// lanes write 32 bytes or more side by side.
template <int Q, typename T>
__global__ void unpack_kernel(T* out, const std::uint8_t* packed, int n, int k) {
  const int runs = k / 32, lane = threadIdx.x % 32;
  const std::int64_t index =
      static_cast<std::int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  const int group = static_cast<int>(index / runs), run = static_cast<int>(index % runs);
  if (group * 16 >= n) return;
  const std::int64_t bytes = static_cast<std::int64_t>(k / Packed<Q>::kColumns) * Packed<Q>::kTileBytes;
  const RawRun<Q> raw = load_run<Q>(packed + group * bytes, run);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = group * 16 + 2 * (lane / 4) + i / 2, half = i % 2;
    if (row >= n) return;
    T* const place = out + static_cast<std::int64_t>(row) * k + 32 * run + 16 * half + 4 * (lane % 4);
    *reinterpret_cast<Vec<T, 4>*>(place) = four_weights<Q, T>(raw, i / 2, half);
  }
}

// Calls `body` with the number of a quantized type.
template <typename Body>
cudaError_t with_blocks(int qtype, Body body) {
  switch (qtype) {
    case kQ4_0: return body(std::integral_constant<int, kQ4_0>{});
    case kQ4_1: return body(std::integral_constant<int, kQ4_1>{});
    case kQ5_0: return body(std::integral_constant<int, kQ5_0>{});
    case kQ5_1: return body(std::integral_constant<int, kQ5_1>{});
    case kQ8_0: return body(std::integral_constant<int, kQ8_0>{});
    case kQ4_K: return body(std::integral_constant<int, kQ4_K>{});
    case kQ5_K: return body(std::integral_constant<int, kQ5_K>{});
    case kQ6_K: return body(std::integral_constant<int, kQ6_K>{});
    default: return cudaErrorInvalidValue;
  }
}

}  // namespace
}  // namespace vllm_kernels::cuda

using namespace vllm_kernels;
using namespace vllm_kernels::cuda;

extern "C" cudaError_t vllm_cuda_dequantize(void* out, const void* raw, int qtype,
                                            std::int64_t count, int dtype, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  return with_blocks(qtype, [&](auto format) {
    return with_type(dtype, [&](auto type) {
      using T = typename decltype(type)::type;
      const dim3 grid(static_cast<unsigned>(divide_up(count, kThreads * kPerThread)));
      VLLM_CUDA_LAUNCH((dequantize_kernel<decltype(format)::value, T>), grid, dim3(kThreads),
                       stream, static_cast<T*>(out), static_cast<const std::uint8_t*>(raw), count);
      return cudaGetLastError();
    });
  });
}

// Q4_0 is packed as Q4_1 and Q5_0 as Q5_1.
extern "C" cudaError_t vllm_cuda_quant_unpack(void* out, const void* packed, int qtype, int n, int k,
                                              int dtype, cudaStream_t stream) {
  const int stored = qtype == kQ4_0 ? kQ4_1 : qtype == kQ5_0 ? kQ5_1 : qtype;
  return with_blocks(stored, [&](auto format) {
    return with_type(dtype, [&](auto type) {
      using T = typename decltype(type)::type;
      const std::int64_t warps = divide_up(n, 16) * (k / 32);
      const dim3 grid(static_cast<unsigned>(divide_up(warps, kThreads / 32)));
      VLLM_CUDA_LAUNCH((unpack_kernel<decltype(format)::value, T>), grid, dim3(kThreads), stream,
                       static_cast<T*>(out), static_cast<const std::uint8_t*>(packed), n, k);
      return cudaGetLastError();
    });
  });
}

extern "C" cudaError_t vllm_cuda_embedding_dequantize(
    void* out, std::int64_t out_stride, const std::int64_t* ids, std::int64_t tokens,
    const void* raw, int qtype, std::int64_t vocab, int hidden, int dtype, cudaStream_t stream) {
  if (tokens == 0 || hidden == 0) return cudaSuccess;
  return with_blocks(qtype, [&](auto format) {
    return with_type(dtype, [&](auto type) {
      using T = typename decltype(type)::type;
      VLLM_CUDA_LAUNCH((embedding_kernel<decltype(format)::value, T>),
                       dim3(static_cast<unsigned>(tokens)), dim3(kThreads), stream,
                       rows_of<T>(out, out_stride), ids, static_cast<const std::uint8_t*>(raw),
                       vocab, hidden);
      return cudaGetLastError();
    });
  });
}

extern "C" cudaError_t vllm_cuda_embedding(void* out, std::int64_t out_stride,
                                           const std::int64_t* ids, std::int64_t tokens,
                                           const void* table, int table_dtype, std::int64_t vocab,
                                           int hidden, int dtype, cudaStream_t stream) {
  if (tokens == 0 || hidden == 0) return cudaSuccess;
  return with_type(table_dtype, [&](auto source) {
    using S = typename decltype(source)::type;
    return with_type(dtype, [&](auto type) {
      using T = typename decltype(type)::type;
      VLLM_CUDA_LAUNCH((dense_embedding_kernel<S, T>), dim3(static_cast<unsigned>(tokens)),
                       dim3(kThreads), stream, rows_of<T>(out, out_stride), ids,
                       static_cast<const S*>(table), vocab, hidden);
      return cudaGetLastError();
    });
  });
}
