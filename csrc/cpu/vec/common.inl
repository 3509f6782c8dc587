// SPDX-License-Identifier: Apache-2.0

// What the vector kernels share: e^x, partial vectors, loads of dense formats. Included first, by
// one file per ISA inside its namespace, after its vec.h; compiled with that ISA's flags and linked
// nowhere else.

// e^x. x = n ln 2 + r with |r| <= ln(2) / 2, e^r by its Taylor series to the 7th power: the first
// term left out is r^8 / 8! < 5.2e-9, below half a unit in the last place of f32 (6.0e-8).
// ln 2 in two parts: n times the first is exact for |n| < 2^9. Zero below -87.33 (2^-126) and for
// NaN; infinite above 88.73 (2^128; AVX2 above 2^127.5).
inline F exp_of(F x) {
  const F lowest = set1(-87.33f);
  const F in = max(lowest, min(set1(88.73f), x));
  const F n = round_nearest(mul(in, set1(1.44269504f)));
  F r = fma(n, set1(-0.693359375f), in);
  r = fma(n, set1(2.12194440e-4f), r);
  F p = set1(1.0f / 5040);
  p = fma(p, r, set1(1.0f / 720));
  p = fma(p, r, set1(1.0f / 120));
  p = fma(p, r, set1(1.0f / 24));
  p = fma(p, r, set1(1.0f / 6));
  p = fma(p, r, set1(0.5f));
  p = fma(p, r, set1(1.0f));
  p = fma(p, r, set1(1.0f));
  return zero_below(scale_by_power(p, n), x, lowest);
}

// cap * tanh(x / cap), with tanh(y) = 1 - 2 / (e^(2 y) + 1): off by some 2^-23 * cap.
inline F capped(F x, float cap) {
  const F e = exp_of(mul(x, set1(2.0f / cap)));
  return mul(set1(cap), sub(set1(1.0f), div(set1(2.0f), add(e, set1(1.0f)))));
}

inline F load_some(const float* p, int64_t n) { return n >= kLanes ? load(p) : load_n(p, n); }
inline void store_some(float* p, F v, int64_t n) { n >= kLanes ? store(p, v) : store_n(p, v, n); }

// Lanes i.. of a dense buffer, as f32.
template <DType D>
inline F load_as(const void* p, int64_t i) {
  if constexpr (D == DType::kF32) return load(static_cast<const float*>(p) + i);
  if constexpr (D == DType::kF16) return load_f16(static_cast<const uint16_t*>(p) + i);
  if constexpr (D == DType::kBF16) return load_bf16(static_cast<const uint16_t*>(p) + i);
}

template <DType D>
inline F load_as_n(const void* p, int64_t i, int64_t n) {
  if constexpr (D == DType::kF32) return load_n(static_cast<const float*>(p) + i, n);
  if constexpr (D == DType::kF16) return load_f16_n(static_cast<const uint16_t*>(p) + i, n);
  if constexpr (D == DType::kBF16) return load_bf16_n(static_cast<const uint16_t*>(p) + i, n);
}
