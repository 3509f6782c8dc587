// SPDX-License-Identifier: Apache-2.0

// The AMX kernel of the quantized linear layer on a CPU without AMX: tile instructions are played by plain
// loops, and results compared with those of the AVX-512 kernel, bit for bit.

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

namespace emulated {

// Tile registers, and their shapes as the last configuration had them (Intel's manual, LDTILECFG).
uint8_t tiles[8][16][64];
uint16_t row_bytes[8];
uint8_t rows[8];

void require(bool good, const char* what) {
  if (good) return;
  std::printf("%s would raise an exception\n", what);
  std::fflush(stdout);
  std::_Exit(1);
}

void load_config(const void* p) {
  uint8_t bytes[64];
  std::memcpy(bytes, p, 64);
  require(bytes[0] == 1 && bytes[1] == 0, "ldtilecfg");
  std::memcpy(row_bytes, bytes + 16, sizeof row_bytes);
  std::memcpy(rows, bytes + 48, sizeof rows);
  for (int t = 0; t < 8; ++t) require(row_bytes[t] <= 64 && rows[t] <= 16, "ldtilecfg");
  std::memset(tiles, 0, sizeof tiles);
}

void release() { std::memset(rows, 0, sizeof rows); }

void load(int t, const void* p, int64_t stride) {
  require(rows[t] > 0, "tileloadd");
  std::memset(tiles[t], 0, sizeof tiles[t]);
  for (int r = 0; r < rows[t]; ++r)
    std::memcpy(tiles[t][r], static_cast<const uint8_t*>(p) + r * stride, row_bytes[t]);
}

void store(int t, void* p, int64_t stride) {
  require(rows[t] > 0, "tilestored");
  for (int r = 0; r < rows[t]; ++r)
    std::memcpy(static_cast<uint8_t*>(p) + r * stride, tiles[t][r], row_bytes[t]);
}

void zero(int t) { std::memset(tiles[t], 0, sizeof tiles[t]); }

// sum [m, n] += a [m, k, 4] s8 . b [k, n, 4] u8
void multiply(int sum, int a, int b) {
  require(rows[sum] == rows[a] && row_bytes[sum] == row_bytes[b] && row_bytes[a] == 4 * rows[b],
          "tdpbsud");
  for (int m = 0; m < rows[sum]; ++m)
    for (int n = 0; n < row_bytes[sum]; n += 4) {
      int32_t total;
      std::memcpy(&total, tiles[sum][m] + n, 4);
      for (int c = 0; c < row_bytes[a]; ++c)
        total += static_cast<int8_t>(tiles[a][m][c]) * tiles[b][c / 4][n + c % 4];
      std::memcpy(tiles[sum][m] + n, &total, 4);
    }
}

}  // namespace emulated

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbsud
#define _tile_loadconfig(p) emulated::load_config(p)
#define _tile_release() emulated::release()
#define _tile_loadd(t, p, stride) emulated::load(t, p, stride)
#define _tile_stored(t, p, stride) emulated::store(t, p, stride)
#define _tile_zero(t) emulated::zero(t)
#define _tile_dpbsud(sum, a, b) emulated::multiply(sum, a, b)

#include "cpu/amx/quant.cpp"

namespace {

using namespace vllm_kernels;

std::mt19937 numbers(7);

// Random bits under scales from 2^-8 to 2^-7 (f16 0x1c00 to 0x1fff); what is read ahead of them too.
std::vector<uint8_t> random_packed(int64_t qtype, int64_t n, int64_t k) {
  const int64_t bytes = tile_bytes(qtype), size = packed_bytes(qtype, n, k);
  std::vector<uint8_t> packed(static_cast<size_t>(size) + (1 << 16));
  for (uint8_t& byte : packed) byte = static_cast<uint8_t>(numbers());
  const int64_t first = block_format(qtype).columns == 256 ? 0 : run_bytes(qtype);
  for (int64_t tile = 0; tile < size; tile += bytes)
    for (int64_t i = first; i < first + (qtype == kQ8_0 ? 32 : 64); i += 2)
      packed[tile + i + 1] = static_cast<uint8_t>(0x1c | (packed[tile + i + 1] & 3));
  return packed;
}

// x [m, k] in one form, and its memory.
struct Quantized {
  std::vector<int8_t> bytes;
  std::vector<float> floats;
  Digits digits;

  Quantized(DigitForm form, const std::vector<float>& x, int64_t m, int64_t k) {
    const int64_t row = k / kBlock * digit_bytes(form), size = m * (k / kBlock);
    bytes.resize(static_cast<size_t>(m * row));
    floats.resize(static_cast<size_t>(3 * size));
    digits = {bytes.data(), floats.data(), floats.data() + size, floats.data() + 2 * size, m};
    for (int64_t i = 0; i < m; ++i)
      avx512::quantize_row({digits.digits + i * row, digits.scale + i, digits.sum + i,
                            digits.half_sum + i, m},
                           form, x.data() + i * k, k);
  }
};

bool agree(int64_t qtype, int64_t m, int64_t n, int64_t k, int64_t coarse) {
  const std::vector<uint8_t> packed = random_packed(qtype, n, k);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(m * k)), expected(static_cast<size_t>(m * n));
  for (float& f : x) f = normal(numbers);
  std::vector<float> found(expected.size(), NAN);
  const Quantized one(DigitForm::kOne, x, m, k), fine(fine_form(qtype), x, m, k);
  QuantLinearArgs args{{expected.data(), n}, {x.data(), k}, packed.data(), nullptr, qtype, m, n, k,
                       coarse, one.digits, fine.digits};
  avx512::quant_linear(args, 0, (n + kTileRows - 1) / kTileRows, 0, m);
  args.out.data = found.data();
  amx::quant_linear(args, 0, (n + kTileRows - 1) / kTileRows, 0, m);
  return std::memcmp(found.data(), expected.data(), expected.size() * sizeof(float)) == 0;
}

}  // namespace

int main() {
  int failures = 0;
  for (int64_t qtype : {kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kQ4_K, kQ5_K, kQ6_K})
    for (int64_t m : {8, 16, 29})
      for (int64_t k : {256, 2560})
        for (int64_t coarse : {0, 32, 50}) {
          if (agree(qtype, m, 50, k, qtype == kQ6_K ? 0 : coarse)) continue;
          ++failures;
          std::printf("type %d, %d rows, %d columns, %d coarse: FAILED\n", static_cast<int>(qtype),
                      static_cast<int>(m), static_cast<int>(k), static_cast<int>(coarse));
        }
  std::printf("%d failed\n", failures);
  return failures ? 1 : 0;
}
