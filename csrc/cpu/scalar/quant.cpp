// SPDX-License-Identifier: Apache-2.0

// Scalar reference of the quantized linear layer: weights are widened to f32 tile by tile,
// activations stay f32, and each output is summed in double in ascending column order.

#include "cpu/scalar/kernels.h"

#include <cmath>

namespace vllm_kernels::scalar {
namespace {

using Tile = float[kBlock][kTileRows];  // column-major: all rows of a column together

void unpack_tile(const uint8_t* tile, int64_t qtype, Tile w) {
  const uint8_t* scales = tile + tile_scale_offset(qtype);
  for (int64_t c = 0; c < kBlock; ++c) {
    const int64_t column = qtype == kQ8_0 ? c : c % 16;
    for (int64_t r = 0; r < kTileRows; ++r) {
      const int byte = tile[column / 4 * 64 + r * 4 + column % 4];
      const float d = f16_to_f32(load_u16(scales + 2 * r));
      if (qtype == kQ8_0) {
        w[c][r] = d * static_cast<float>(byte - 128);
      } else {
        const float min = f16_to_f32(load_u16(scales + 2 * kTileRows + 2 * r));
        w[c][r] = d * static_cast<float>(c < 16 ? byte & 15 : byte >> 4) + min;
      }
    }
  }
}

void add_tile(const Tile w, const float* x, double* sums) {
  for (int64_t c = 0; c < kBlock; ++c)
    for (int64_t r = 0; r < kTileRows; ++r)
      sums[r] += static_cast<double>(x[c]) * static_cast<double>(w[c][r]);
}

// Rows of x that share one unpacked tile; does not enter any sum.
constexpr int64_t kRows = 16;

void group_rows(const QuantLinearArgs& a, int64_t group, int64_t m0, int64_t rows) {
  double sums[kRows][kTileRows] = {};
  const int64_t tiles = a.k / kBlock;
  Tile w;
  for (int64_t t = 0; t < tiles; ++t) {
    unpack_tile(a.packed + (group * tiles + t) * tile_bytes(a.qtype), a.qtype, w);
    for (int64_t m = 0; m < rows; ++m) add_tile(w, a.x.row(m0 + m) + t * kBlock, sums[m]);
  }
  for (int64_t m = 0; m < rows; ++m)
    for (int64_t r = 0; r < kTileRows && group * kTileRows + r < a.n; ++r)
      a.out.row(m0 + m)[group * kTileRows + r] = static_cast<float>(sums[m][r]);
}

}  // namespace

void quantize_row(const float* x, int64_t k, int8_t* q, float* scale, float* sum) {
  for (int64_t b = 0; b < k / kBlock; ++b) {
    float max = 0.0f;
    for (int64_t i = 0; i < kBlock; ++i) max = std::fmax(max, std::fabs(x[b * kBlock + i]));
    const float d = max / (127.0f * 256.0f), inverse = max > 0.0f ? 127.0f / max : 0.0f;
    int total = 0;
    for (int64_t i = 0; i < kBlock; ++i) {
      const float steps = x[b * kBlock + i] * inverse, high = std::nearbyint(steps);
      const float low = std::fmin(std::fmax(std::nearbyint((steps - high) * 256.0f), -127.0f), 127.0f);
      q[2 * b * kBlock + i] = static_cast<int8_t>(high);
      q[(2 * b + 1) * kBlock + i] = static_cast<int8_t>(low);
      total += 256 * static_cast<int>(high) + static_cast<int>(low);
    }
    scale[b] = d;
    sum[b] = d * static_cast<float>(total);
  }
}

void quant_linear(const QuantLinearArgs& a, int64_t g0, int64_t g1, int64_t m0, int64_t m1) {
  for (int64_t g = g0; g < g1; ++g)
    for (int64_t m = m0; m < m1; m += kRows) group_rows(a, g, m, m1 - m < kRows ? m1 - m : kRows);
}

}  // namespace vllm_kernels::scalar
