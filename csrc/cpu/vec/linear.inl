// SPDX-License-Identifier: Apache-2.0

// Dense linear layer in vectors: tiles of kColumns outputs x up to kRows rows of x, all sums in
// registers; see common.inl for how this is included. The including file sets kRows (4 x 4
// sums
// + 4 weights + 1 of 32 registers with AVX-512, 4 x 2 + 4 + 1 of 16 with AVX2).
//
// An output is summed over its columns in the same order whatever tile it falls into.

constexpr int kColumns = 4;

template <DType D, int N, int M>
void dot_tile(const LinearArgs& a, int64_t n0, int64_t m0) {
  const uint8_t* w[N];
  const float* x[M];
  F sums[N][M];
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n)
    w[n] = static_cast<const uint8_t*>(a.weight) + (n0 + n) * a.k * dtype_bytes(D);
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) x[m] = a.x.row(m0 + m);
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n)
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) sums[n][m] = zero();
  int64_t i = 0;
  for (; i + kLanes <= a.k; i += kLanes) {
    F weights[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) weights[n] = load_as<D>(w[n], i);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const F in = load(x[m] + i);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) sums[n][m] = fma(weights[n], in, sums[n][m]);
    }
  }
  if (i < a.k) {
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const F in = load_n(x[m] + i, a.k - i);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) sums[n][m] = fma(load_as_n<D>(w[n], i, a.k - i), in, sums[n][m]);
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n)
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m)
      a.out.row(m0 + m)[n0 + n] = sum(sums[n][m]) + (a.bias ? a.bias[n0 + n] : 0.0f);
}

template <DType D, int N>
void dot_rows(const LinearArgs& a, int64_t n0, int64_t m0, int64_t m1) {
  int64_t m = m0;
  for (; m + kRows <= m1; m += kRows) dot_tile<D, N, kRows>(a, n0, m);
  for (; m < m1; ++m) dot_tile<D, N, 1>(a, n0, m);
}

template <DType D>
void linear_as(const LinearArgs& a, int64_t n0, int64_t n1, int64_t m0, int64_t m1) {
  int64_t n = n0;
  for (; n + kColumns <= n1; n += kColumns) dot_rows<D, kColumns>(a, n, m0, m1);
  for (; n < n1; ++n) dot_rows<D, 1>(a, n, m0, m1);
}

void linear(const LinearArgs& a, int64_t n0, int64_t n1, int64_t m0, int64_t m1) {
  switch (a.dtype) {
    case DType::kF32: return linear_as<DType::kF32>(a, n0, n1, m0, m1);
    case DType::kF16: return linear_as<DType::kF16>(a, n0, n1, m0, m1);
    case DType::kBF16: return linear_as<DType::kBF16>(a, n0, n1, m0, m1);
  }
}
