// SPDX-License-Identifier: Apache-2.0

// Quantized weights: the linear layer over threads, and widening back to f32.

#include <algorithm>
#include <memory>

#include "cpu/ggml_blocks.h"
#include "cpu/isa.h"
#include "cpu/ops.h"
#include "cpu/thread_pool.h"

namespace vllm_kernels::ops {
namespace {

constexpr int64_t kRowPiece = 128;
// Bytes of weights that are worth another thread: 16 KiB take about 1 us at 16 GB/s.
constexpr int64_t kMinBytes = 16384;

// Quantized activations of the op in progress in this thread; kept, because every layer needs them
// again. 64-byte alignment lets kernels load whole cache lines.
struct Activations {
  std::unique_ptr<uint8_t[]> memory;
  size_t capacity = 0;

  uint8_t* reserve(size_t bytes) {
    if (bytes + 64 > capacity) {
      memory.reset(new uint8_t[bytes + 64]);
      capacity = bytes + 64;
    }
    const uintptr_t address = reinterpret_cast<uintptr_t>(memory.get());
    return memory.get() + (64 - address % 64) % 64;
  }
};

// One form of m rows of `blocks` blocks, and where it lies.
struct Layout {
  int64_t m, blocks;
  DigitForm form;

  // Not a power of two, whose blocks would share the few cache sets of one another.
  int64_t rows() const { return (m + 15) / 16 * 16 + 16; }
  int64_t row_bytes() const { return blocks * digit_bytes(form); }
  int64_t floats() const { return rows() * blocks; }
  int64_t bytes() const { return (m * row_bytes() + 63) / 64 * 64 + 3 * 4 * floats(); }

  Digits at(uint8_t* memory) const {
    float* const scale = reinterpret_cast<float*>(memory + (m * row_bytes() + 63) / 64 * 64);
    return {reinterpret_cast<int8_t*>(memory), scale, scale + floats(), scale + 2 * floats(),
            rows()};
  }

  Digits row(const Digits& d, int64_t i) const {
    return {d.digits + i * row_bytes(), d.scale + i, d.sum + i, d.half_sum + i, d.rows};
  }
};

// x in the forms that columns of the op see.
void quantize_activations(QuantLinearArgs& a) {
  static thread_local Activations buffer;
  const Layout one{a.m, a.k / kBlock, DigitForm::kOne}, fine{a.m, one.blocks, fine_form(a.qtype)};
  const int64_t one_bytes = a.coarse > 0 ? (one.bytes() + 63) / 64 * 64 : 0;
  uint8_t* const memory = buffer.reserve(static_cast<size_t>(one_bytes + fine.bytes()));
  a.one = one.at(memory);
  a.fine = fine.at(memory + one_bytes);
  const auto kernel = kernels().quantize_row;
  parallel_for(a.m, balanced_grain(a.m, 16384 / a.k + 1), [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) {
      if (a.coarse > 0) kernel(one.row(a.one, m), one.form, a.x.row(m), a.k);
      if (a.coarse < a.n) kernel(fine.row(a.fine, m), fine.form, a.x.row(m), a.k);
    }
  });
}

// Columns n0..n1 of rows m0..m1, while they are in the cache.
void add_bias(const QuantLinearArgs& a, int64_t n0, int64_t n1, int64_t m0, int64_t m1) {
  for (int64_t m = m0; m < m1; ++m) {
    float* out = a.out.row(m);
    for (int64_t n = n0; n < n1; ++n) out[n] += a.bias[n];
  }
}

}  // namespace

void quant_linear(QuantLinearArgs a) {
  if (a.m == 0 || a.n == 0) return;
  const KernelTable& table = kernels();
  if (has_halves(a.qtype)) a.coarse = 0;  // sums of halves are known of two digits only
  if (table.quantize_row) quantize_activations(a);
  const int64_t groups = (a.n + kTileRows - 1) / kTileRows;
  const int64_t group_bytes = packed_bytes(a.qtype, 1, a.k) * std::min<int64_t>(a.m, 16) + 1;
  const int64_t grain = balanced_grain(groups, kMinBytes / group_bytes + 1);
  const int64_t column_pieces = (groups + grain - 1) / grain;
  const int64_t row_pieces = (a.m + kRowPiece - 1) / kRowPiece;
  parallel_for(column_pieces * row_pieces, 1, [&](int64_t piece, int64_t) {
    const int64_t g0 = piece % column_pieces * grain, m0 = piece / column_pieces * kRowPiece;
    const int64_t g1 = std::min(g0 + grain, groups), m1 = std::min(m0 + kRowPiece, a.m);
    table.quant_linear(a, g0, g1, m0, m1);
    if (a.bias) add_bias(a, g0 * kTileRows, std::min(g1 * kTileRows, a.n), m0, m1);
  });
}

void dequantize(float* out, const uint8_t* raw, int64_t qtype, int64_t runs) {
  const BlockFormat format = block_format(qtype);
  const int64_t per_block = format.columns / kBlock;
  parallel_for(runs, balanced_grain(runs, 512), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      dequantize_run(out + r * kBlock, raw + r / per_block * format.bytes, qtype, r % per_block);
  });
}

void embedding_quantized(float* out, const int64_t* ids, int64_t rows, const uint8_t* raw,
                         int64_t qtype, int64_t hidden) {
  const BlockFormat format = block_format(qtype);
  const int64_t per_block = format.columns / kBlock;
  const int64_t row_bytes = hidden / format.columns * format.bytes;
  parallel_for(rows, balanced_grain(rows, 16), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t b = 0; b < hidden / kBlock; ++b)
        dequantize_run(out + r * hidden + b * kBlock,
                       raw + ids[r] * row_bytes + b / per_block * format.bytes, qtype,
                       b % per_block);
  });
}

void embedding_dense(float* out, const int64_t* ids, int64_t rows, const void* table, DType dtype,
                     int64_t hidden) {
  const auto load = kernels().load_row;
  const int64_t row_bytes = hidden * dtype_bytes(dtype);
  parallel_for(rows, balanced_grain(rows, 16), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      load(out + r * hidden, static_cast<const uint8_t*>(table) + ids[r] * row_bytes, dtype,
           hidden);
  });
}

}  // namespace vllm_kernels::ops
