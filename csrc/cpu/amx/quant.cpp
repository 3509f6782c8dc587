// SPDX-License-Identifier: Apache-2.0

// Quantized linear layer with AMX: tiles of 8 or 16 rows of x at a time.
//
// A run of packed weights, unpacked, is what tdpbsud takes as its second operand: 8 rows of 64 bytes,
// each 16 outputs x 4 columns; for low digits that two columns share, the 4 rows of bytes before they are
// unpacked. Its sums over 32 columns are exact, and the f32 operations after them
// are those of cpu/avx512/quant.cpp in the same order, so a result is the same bit for bit whichever
// of the two computed it; rows that fill no tile are computed there.

#include "cpu/amx/quant.h"

#include "cpu/avx512/quant.h"
#include "cpu/avx512/tiles.h"

namespace vllm_kernels::amx {
namespace {

using avx512::load_run;
using avx512::Run;

// Blocks of columns that are unpacked at a time: 1,280 columns, 20 KiB of quants, 10 KiB of bytes and 5 KiB of
// scales, which an L1 cache of 48 KiB keeps while all rows of x pass.
constexpr int64_t kSlice = 40;
constexpr int64_t kFewRows = 8, kManyRows = 16;

// 16 outputs x up to kSlice blocks of columns.
struct Slice {
  alignas(64) uint8_t quants[kSlice][8][64], bytes[kSlice][4][64];
  alignas(64) float scale[kSlice][kTileRows], offset[kSlice][kTileRows];
};

// Tile registers for R rows of x: 0 and 1 sums of the high and of the low digits,
// 2 and 3 those digits, 4 weights, 5 and 6 sums like 0 and 1, 7 weights for the low digits that are shared.
// (Intrinsics of gcc paste the numbers into the instruction, so they can have no names.)
template <int R>
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, kBlock, kBlock, 64, 64, 64, 64};
  uint8_t rows[16] = {R, R, R, R, kBlock / 4, R, R, kBlock / 8};

  explicit TileConfig(int64_t qtype) {
    if (fine_form(qtype) == DigitForm::kShared) row_bytes[3] = kBlock / 2;
  }
};

// Blocks first .. first + count of a group.
template <int64_t kType>
void unpack(Slice& slice, const uint8_t* group, int64_t first, int64_t count) {
  constexpr int64_t bytes = tile_bytes(kType), runs = block_format(kType).columns / kBlock;
  for (int64_t b = 0; b < count; ++b) {
    const Run run = load_run<kType>(group + (first + b) / runs * bytes, (first + b) % runs);
#pragma GCC unroll 8
    for (int s = 0; s < 8; ++s) _mm512_store_si512(slice.quants[b][s], run.quants[s]);
    if constexpr (fine_form(kType) == DigitForm::kShared)
#pragma GCC unroll 4
      for (int s = 0; s < 4; ++s) _mm512_store_si512(slice.bytes[b][s], run.bytes[s]);
    _mm512_store_ps(slice.scale[b], run.scale[0]);
    _mm512_store_ps(slice.offset[b], run.offset[0]);
  }
  // What follows reads memory in ways that the compiler does not see.
  __asm__ volatile("" ::: "memory");
}

// Sums of products of one block: of the high digits [0, R, 16], of the low ones [1, R, 16]; exact.
template <int R>
using Sums = int32_t[2][R][16];

// R rows of x against 16 outputs, in four steps a block. Each step has what it needs from the turn before,
// when the steps of four blocks are taken in turns: a product takes some 50 cycles, so that waiting for it
// would leave the ports idle that scale the sums.
template <DigitForm kForm, int R>
struct Strip {
  const int8_t* x;  // digits of the first row, rows `stride` bytes apart
  int64_t stride;
  const float *x_scale, *x_sum;  // of the first block, blocks `rows` apart
  int64_t rows;
  __m512 y[R];

  inline __attribute__((always_inline)) void load(const Slice& slice, int64_t b) const {
    _tile_loadd(4, slice.quants[b], 64);
    _tile_loadd(2, x + digit_bytes(kForm) * b, stride);
    if constexpr (kForm == DigitForm::kOne) return;
    _tile_loadd(3, x + digit_bytes(kForm) * b + kBlock, stride);
    if constexpr (kForm == DigitForm::kShared) _tile_loadd(7, slice.bytes[b], 64);
  }

  template <int kSet>
  inline __attribute__((always_inline)) void multiply() const {
    if constexpr (kSet == 0) {
      _tile_zero(0);
      _tile_dpbsud(0, 2, 4);
      if constexpr (kForm == DigitForm::kOne) return;
      _tile_zero(1);
      if constexpr (kForm == DigitForm::kTwo) _tile_dpbsud(1, 3, 4);
      if constexpr (kForm == DigitForm::kShared) _tile_dpbsud(1, 3, 7);
    } else {
      _tile_zero(5);
      _tile_dpbsud(5, 2, 4);
      if constexpr (kForm == DigitForm::kOne) return;
      _tile_zero(6);
      if constexpr (kForm == DigitForm::kTwo) _tile_dpbsud(6, 3, 4);
      if constexpr (kForm == DigitForm::kShared) _tile_dpbsud(6, 3, 7);
    }
  }

  template <int kSet>
  inline __attribute__((always_inline)) void store(Sums<R>& sums) const {
    if constexpr (kSet == 0) {
      _tile_stored(0, sums[0], 64);
      if constexpr (kForm != DigitForm::kOne) _tile_stored(1, sums[1], 64);
    } else {
      _tile_stored(5, sums[0], 64);
      if constexpr (kForm != DigitForm::kOne) _tile_stored(6, sums[1], 64);
    }
  }

  inline __attribute__((always_inline)) void add(const Slice& slice, int64_t b,
                                                 const Sums<R>& sums) {
    const __m512 scale = _mm512_load_ps(slice.scale[b]), offset = _mm512_load_ps(slice.offset[b]);
    const float *scales = x_scale + b * rows, *x_sums = x_sum + b * rows;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      __m512i sum = _mm512_load_si512(sums[0][r]);
      if constexpr (kForm != DigitForm::kOne)
        sum = _mm512_add_epi32(_mm512_slli_epi32(sum, 8), _mm512_load_si512(sums[1][r]));
      const __m512 factor = _mm512_mul_ps(scale, _mm512_set1_ps(scales[r]));
      y[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), factor, y[r]);
      y[r] = _mm512_fmadd_ps(offset, _mm512_set1_ps(x_sums[r]), y[r]);
    }
  }
};

// Adds blocks first .. first + count to columns 16 * group .. of rows m .. m + R. Meanwhile as many blocks
// of kBytes from `ahead` on are fetched, so that memory works while products are computed.
template <DigitForm kForm, int R, int64_t kBytes>
void add_slice(const QuantLinearArgs& a, const Slice& slice, int64_t group, int64_t m, int64_t first,
               int64_t count, const uint8_t* ahead) {
  const Digits& xq = kForm == DigitForm::kOne ? a.one : a.fine;
  const int64_t blocks = a.k / kBlock, at = first * xq.rows + m;
  Strip<kForm, R> strip{xq.digits + digit_bytes(kForm) * (m * blocks + first),
                        digit_bytes(kForm) * blocks, xq.scale + at, xq.sum + at, xq.rows, {}};
  const int64_t column = group * kTileRows, columns = a.n - column;
  const __mmask16 mask =
      columns >= kTileRows ? 0xffff : static_cast<__mmask16>((1u << columns) - 1u);
  alignas(64) Sums<R> sums[2];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
    strip.y[r] =
        first > 0 ? _mm512_maskz_loadu_ps(mask, a.out.row(m + r) + column) : _mm512_setzero_ps();
  const auto take_turn = [&]<int kSet>(int64_t turn) __attribute__((always_inline)) {
    if (turn >= 1 && turn < count + 1) strip.template multiply<1 - kSet>();
    if (turn < count) strip.load(slice, turn);
#pragma GCC unroll 9
    for (int64_t line = 0; line < kBytes; line += 64)
      _mm_prefetch(ahead + turn * kBytes + line, _MM_HINT_T0);
    if (turn >= 2 && turn < count + 2) strip.template store<kSet>(sums[kSet]);
    if (turn >= 3 && turn < count + 3) strip.add(slice, turn - 3, sums[1 - kSet]);
  };
  for (int64_t turn = 0; turn < count + 3; turn += 2) {
    take_turn.template operator()<0>(turn);
    take_turn.template operator()<1>(turn + 1);
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) _mm512_mask_storeu_ps(a.out.row(m + r) + column, mask, strip.y[r]);
}

// Rows m0..m1, a multiple of R.
template <int64_t kType, DigitForm kForm, int R>
void groups(const QuantLinearArgs& a, int64_t g0, int64_t g1, int64_t m0, int64_t m1) {
  constexpr int64_t kRunBytes = tile_bytes(kType) / (block_format(kType).columns / kBlock);
  const int64_t blocks = a.k / kBlock;
  const int64_t group_bytes = a.k / block_format(kType).columns * tile_bytes(kType);
  Slice slice;
  for (int64_t g = g0; g < g1; ++g)
    for (int64_t first = 0; first < blocks; first += kSlice) {
      const int64_t count = blocks - first < kSlice ? blocks - first : kSlice;
      unpack<kType>(slice, a.packed + g * group_bytes, first, count);
      const uint8_t* const ahead = a.packed + (g + 1) * group_bytes + first * kRunBytes;
      for (int64_t m = m0; m < m1; m += R)
        add_slice<kForm, R, kRunBytes>(a, slice, g, m, first, count, ahead);
    }
}

// The groups that see one digit, then the others.
template <int64_t kType, int R>
void linear_as(const QuantLinearArgs& a, int64_t g0, int64_t g1, int64_t m0, int64_t m1) {
  const int64_t coarse = (a.coarse + kTileRows - 1) / kTileRows, end = coarse < g1 ? coarse : g1;
  if (g0 < end) groups<kType, DigitForm::kOne, R>(a, g0, end, m0, m1);
  if (g0 < end) g0 = end;
  if (g0 < g1) groups<kType, fine_form(kType), R>(a, g0, g1, m0, m1);
}

template <int R>
void linear_tiles(const QuantLinearArgs& a, int64_t g0, int64_t g1, int64_t m0, int64_t m1) {
  const TileConfig<R> config(a.qtype);
  _tile_loadconfig(&config);
  switch (a.qtype) {
    case kQ4_0:
    case kQ4_1: linear_as<kQ4_1, R>(a, g0, g1, m0, m1); break;
    case kQ5_0:
    case kQ5_1: linear_as<kQ5_1, R>(a, g0, g1, m0, m1); break;
    case kQ4_K: linear_as<kQ4_K, R>(a, g0, g1, m0, m1); break;
    case kQ5_K: linear_as<kQ5_K, R>(a, g0, g1, m0, m1); break;
    default: linear_as<kQ8_0, R>(a, g0, g1, m0, m1);
  }
  _tile_release();  // else every switch of threads would save 8 KiB of tiles
}

}  // namespace

void quant_linear(const QuantLinearArgs& a, int64_t g0, int64_t g1, int64_t m0, int64_t m1) {
  // Q6_K has scales for 16 columns, half of what a tile adds up.
  const bool tiles = a.qtype != kQ6_K;
  const int64_t many = tiles ? m0 + (m1 - m0) / kManyRows * kManyRows : m0;
  const int64_t few = tiles ? many + (m1 - many) / kFewRows * kFewRows : m0;
  if (m0 < many) linear_tiles<kManyRows>(a, g0, g1, m0, many);
  if (many < few) linear_tiles<kFewRows>(a, g0, g1, many, few);
  if (few < m1) avx512::quant_linear(a, g0, g1, few, m1);
}

}  // namespace vllm_kernels::amx
