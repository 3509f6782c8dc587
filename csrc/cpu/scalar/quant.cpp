// SPDX-License-Identifier: Apache-2.0

// Scalar reference of the quantized linear layer: weights are widened to f32 run by run,
// activations stay f32, and each output is summed in double in ascending column order.

#include "cpu/scalar/kernels.h"

#include <cmath>

namespace vllm_kernels::scalar {
namespace {

using Run = float[kBlock][kTileRows];  // column-major: all rows of a column together

// Scale and minimum of row r in either half of a run.
struct Scales {
  float scale[2], minimum[2];
};

float half_at(const uint8_t* p, int64_t r) { return f16_to_f32(load_u16(p + 2 * r)); }

Scales narrow_scales(const uint8_t* scales, int64_t qtype, int64_t r) {
  const float d = half_at(scales, r);
  const float m = qtype == kQ8_0 ? -128.0f * d : half_at(scales + 2 * kTileRows, r);
  return {{d, d}, {m, m}};
}

// `header` of a tile of 256 columns.
Scales wide_scales(const uint8_t* header, int64_t qtype, int64_t run, int64_t r) {
  const float d = half_at(header, r), dm = half_at(header + 32, r);
  const uint8_t* s = header + 64 + 32 * run + r;
  if (qtype != kQ6_K) return {{d * s[0], d * s[0]}, {-dm * s[16], -dm * s[16]}};
  const float first = d * static_cast<int8_t>(s[0]), last = d * static_cast<int8_t>(s[16]);
  return {{first, last}, {-32.0f * first, -32.0f * last}};
}

int quant(const uint8_t* run, int bits, int64_t r, int64_t c) {
  const int64_t lane = 4 * r + c % 4, s = c / 4;
  if (bits == 8) return run[s * 64 + lane];
  const int byte = run[s % 4 * 64 + lane];
  const int low = c < 16 ? byte & 15 : byte >> 4;
  if (bits == 5) return low | ((run[256 + lane] >> s) & 1) << 4;
  if (bits == 6) return low | ((run[256 + s / 4 * 64 + lane] >> (s % 4 * 2)) & 3) << 4;
  return low;
}

void unpack_run(const uint8_t* tile, int64_t qtype, int64_t index, Run w) {
  const BlockFormat format = block_format(qtype);
  const bool wide = format.columns == 256;
  const uint8_t* run = wide ? tile + kTileHeader + index * run_bytes(qtype) : tile;
  for (int64_t r = 0; r < kTileRows; ++r) {
    const Scales s = wide ? wide_scales(tile, qtype, index, r)
                          : narrow_scales(tile + run_bytes(qtype), qtype, r);
    for (int64_t c = 0; c < kBlock; ++c)
      w[c][r] =
          s.scale[c / 16] * static_cast<float>(quant(run, format.bits, r, c)) + s.minimum[c / 16];
  }
}

void add_run(const Run w, const float* x, double* sums) {
  for (int64_t c = 0; c < kBlock; ++c)
    for (int64_t r = 0; r < kTileRows; ++r)
      sums[r] += static_cast<double>(x[c]) * static_cast<double>(w[c][r]);
}

// Rows of x that share one unpacked run; does not enter any sum.
constexpr int64_t kRows = 16;

void group_rows(const QuantLinearArgs& a, int64_t group, int64_t m0, int64_t rows) {
  double sums[kRows][kTileRows] = {};
  const int64_t per_tile = block_format(a.qtype).columns / kBlock;
  const int64_t tiles = a.k / kBlock / per_tile;
  Run w;
  for (int64_t b = 0; b < a.k / kBlock; ++b) {
    const int64_t tile = group * tiles + b / per_tile;
    unpack_run(a.packed + tile * tile_bytes(a.qtype), a.qtype, b % per_tile, w);
    for (int64_t m = 0; m < rows; ++m) add_run(w, a.x.row(m0 + m) + b * kBlock, sums[m]);
  }
  for (int64_t m = 0; m < rows; ++m)
    for (int64_t r = 0; r < kTileRows && group * kTileRows + r < a.n; ++r)
      a.out.row(m0 + m)[group * kTileRows + r] = static_cast<float>(sums[m][r]);
}

}  // namespace

void quant_linear(const QuantLinearArgs& a, int64_t g0, int64_t g1, int64_t m0, int64_t m1) {
  for (int64_t g = g0; g < g1; ++g)
    for (int64_t m = m0; m < m1; m += kRows) group_rows(a, g, m, m1 - m < kRows ? m1 - m : kRows);
}

}  // namespace vllm_kernels::scalar
