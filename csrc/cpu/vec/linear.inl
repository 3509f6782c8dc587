// SPDX-License-Identifier: Apache-2.0

// Dense linear layer in vectors, on weights in tiles of 32 rows (formats.h); see common.inl for how this
// is included. The including file sets kStripRows: rows of x that are computed together.
//
// A tile's 32 outputs of each row of x are kGroups registers of sums, one lane an output, so nothing is
// added across lanes. A unit of weights (one column of 32 rows, or two in bf16) is loaded once for all
// rows of a strip, whose words of x for that unit lie side by side: with AVX-512 24 sums + 2 weights + 1
// word of x of 32 registers, and 14 loads for 24 products, of which a Zen 5 begins two each a cycle. 24
// independent sums also cover the latency of the products.
//
// An output is summed in the order of its columns whatever strip it falls into, so that a row's result
// does not depend on how many rows are computed together. Sums that are put down between two runs of
// units keep all their bits.

constexpr int kGroups = kDenseRows / kLanes;
// Units of a run where there are many strips: a tile's are 64 or 128 KiB then and, with the words of some
// 128 rows, stay in an L2 cache from strip to strip.
constexpr int64_t kRunUnits = 1024;
constexpr int64_t kFewRows = 4 * kStripRows;
// Distance of the software prefetch in bytes, beyond what the hardware fetches over a 4 KiB page.
constexpr int64_t kWeightPrefetch = 8192;

template <DType D>
inline F load_group(const uint8_t* unit, int g) {
  // A pair of bf16 is one lane.
  constexpr DType kWord = D == DType::kF16 ? DType::kF16 : DType::kF32;
  return load_as<kWord>(unit, g * kLanes);
}

// x: R words, of R rows; where a pair is two words, R more behind them.
template <DType D, int R>
inline F add_product(F sum, F weights, const float* x) {
  if constexpr (D == DType::kBF16) return add_pair(sum, weights, x, R);
  return fma(weights, set1(*x), sum);
}

template <DType D, int R>
inline __attribute__((always_inline)) void add_unit(F (&y)[R][kGroups], const uint8_t* unit,
                                                    const float* x) {
  F weights[kGroups];
#pragma GCC unroll 4
  for (int g = 0; g < kGroups; ++g) weights[g] = load_group<D>(unit, g);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) y[r][g] = add_product<D, R>(y[r][g], weights[g], x + r);
}

template <DType D>
constexpr int64_t kUnitWords = D == DType::kBF16 ? kPairWords : 1;

// Units u0..u1 of one tile with R rows of x from row m.
template <DType D, int R>
struct StripPass {
  const LinearArgs& a;
  int64_t column, m;  // first column of out, first row
  F y[R][kGroups];

  inline __attribute__((always_inline)) void run(int64_t u0, int64_t u1) {
    u0 > 0 ? take_up() : begin();
    const int64_t units = dense_units(D, a.k);
    const uint8_t* unit = a.weight + (column / kDenseRows * units + u0) * unit_bytes(D);
    const float* x = a.strips + (m * units + u0 * R) * kUnitWords<D>;
    for (int64_t u = u0; u < u1; ++u, unit += unit_bytes(D), x += R * kUnitWords<D>) {
      __builtin_prefetch(unit + kWeightPrefetch);
      if constexpr (unit_bytes(D) > 64) __builtin_prefetch(unit + kWeightPrefetch + 64);
      add_unit<D, R>(y, unit, x);
    }
    put_down();
  }

  inline __attribute__((always_inline)) void begin() {
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) {
      const F first = a.bias == nullptr ? zero() : load_columns(a.bias, g);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) y[r][g] = first;
    }
  }

  inline __attribute__((always_inline)) void take_up() {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; ++g) y[r][g] = load_columns(a.out.row(m + r), g);
  }

  inline __attribute__((always_inline)) void put_down() const {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; ++g) {
        const int64_t c = column + g * kLanes;
        if (c < a.n) store_some(a.out.row(m + r) + c, y[r][g], a.n - c);
      }
  }

  F load_columns(const float* row, int g) const {
    const int64_t c = column + g * kLanes;
    return c < a.n ? load_some(row + c, a.n - c) : zero();
  }
};

template <DType D, int R>
void strip_pass(const LinearArgs& a, int64_t tile, int64_t m, int64_t u0, int64_t u1) {
  StripPass<D, R>{a, tile * kDenseRows, m, {}}.run(u0, u1);
}

// The strip of fewer rows at the end.
template <DType D, int R = kStripRows - 1>
void last_strip(const LinearArgs& a, int64_t tile, int64_t m, int64_t rows, int64_t u0, int64_t u1) {
  if (rows == R) return strip_pass<D, R>(a, tile, m, u0, u1);
  if constexpr (R > 1) last_strip<D, R - 1>(a, tile, m, rows, u0, u1);
}

template <DType D>
void linear_as(const LinearArgs& a, int64_t t0, int64_t t1, int64_t m0, int64_t m1) {
  const int64_t units = dense_units(D, a.k), run = m1 - m0 > kFewRows ? kRunUnits : units;
  for (int64_t u0 = 0; u0 < units; u0 += run) {
    const int64_t u1 = u0 + run < units ? u0 + run : units;
    for (int64_t t = t0; t < t1; ++t) {
      int64_t m = m0;
      for (; m + kStripRows <= m1; m += kStripRows) strip_pass<D, kStripRows>(a, t, m, u0, u1);
      last_strip<D>(a, t, m, m1 - m, u0, u1);
    }
  }
}

void linear(const LinearArgs& a, int64_t t0, int64_t t1, int64_t m0, int64_t m1) {
  switch (a.dtype) {
    case DType::kF32: return linear_as<DType::kF32>(a, t0, t1, m0, m1);
    case DType::kF16: return linear_as<DType::kF16>(a, t0, t1, m0, m1);
    case DType::kBF16: return linear_as<DType::kBF16>(a, t0, t1, m0, m1);
  }
}

int64_t strip_words(DType dtype, int64_t k) {
  return dense_units(dtype, k) * (dtype == DType::kBF16 ? kPairWords : 1);
}

template <bool kPairs>
void make_strip_of(float* dst, ConstRows x, int64_t rows, int64_t words, int64_t k) {
  const auto load_words = [&](int64_t r, int64_t i) {
    if constexpr (kPairs) return load_pair_words(x.row(r), i, k);
    return load_some(x.row(r) + i, k - i);
  };
  for (int64_t i = 0; i < words; i += kLanes) {
    const int64_t count = words - i < kLanes ? words - i : kLanes;
    if (rows == 1) {
      store_some(dst + i, load_words(0, i), count);
      continue;
    }
    F v[kLanes];
#pragma GCC unroll 16
    for (int r = 0; r < kLanes; ++r) v[r] = r < rows ? load_words(r, i) : zero();
    transpose(v);
    for (int64_t j = 0; j < count; ++j) store_n(dst + (i + j) * rows, v[j], rows);
  }
}

void make_strip(float* dst, ConstRows x, int64_t rows, int64_t k, DType dtype) {
  const int64_t words = strip_words(dtype, k);
  if (dtype == DType::kBF16) return make_strip_of<true>(dst, x, rows, words, k);
  make_strip_of<false>(dst, x, rows, words, k);
}
