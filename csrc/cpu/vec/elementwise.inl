// SPDX-License-Identifier: Apache-2.0

// Norm, rotary embedding, activation and format conversion in vectors; see common.inl for how this
// is included.

inline float sum_of_squares(const float* x, int64_t n) {
  F s0 = zero(), s1 = zero();
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    const F a = load(x + i), b = load(x + i + kLanes);
    s0 = fma(a, a, s0);
    s1 = fma(b, b, s1);
  }
  for (; i < n; i += kLanes) {
    const F a = load_some(x + i, n - i);
    s0 = fma(a, a, s0);
  }
  return sum(add(s0, s1));
}

inline void normalize_row(float* out, const float* x, const float* weight, int64_t hidden,
                          float eps) {
  const float mean = sum_of_squares(x, hidden) / static_cast<float>(hidden);
  const F scale = set1(1.0f / __builtin_sqrtf(mean + eps));
  for (int64_t i = 0; i < hidden; i += kLanes) {
    const int64_t n = hidden - i;
    store_some(out + i, mul(mul(load_some(x + i, n), scale), load_some(weight + i, n)), n);
  }
}

void rms_norm(Rows out, ConstRows x, const float* weight, int64_t rows, int64_t hidden, float eps) {
  for (int64_t r = 0; r < rows; ++r) normalize_row(out.row(r), x.row(r), weight, hidden, eps);
}

void fused_add_rms_norm(Rows x, Rows residual, const float* weight, int64_t rows, int64_t hidden,
                        float eps) {
  for (int64_t r = 0; r < rows; ++r) {
    float* in = x.row(r);
    float* total = residual.row(r);
    for (int64_t i = 0; i < hidden; i += kLanes) {
      const int64_t n = hidden - i;
      store_some(total + i, add(load_some(total + i, n), load_some(in + i, n)), n);
    }
    normalize_row(in, total, weight, hidden, eps);
  }
}

inline void rotate_halves(float* head, const float* cos, const float* sin, int64_t half) {
  for (int64_t i = 0; i < half; i += kLanes) {
    const int64_t n = half - i;
    const F a = load_some(head + i, n), b = load_some(head + half + i, n);
    const F c = load_some(cos + i, n), s = load_some(sin + i, n);
    store_some(head + i, sub(mul(a, c), mul(b, s)), n);
    store_some(head + half + i, fma(b, c, mul(a, s)), n);
  }
}

inline void rotate_pairs(float* head, const float* cos, const float* sin, int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const float a = head[2 * i], b = head[2 * i + 1];
    head[2 * i] = a * cos[i] - b * sin[i];
    head[2 * i + 1] = b * cos[i] + a * sin[i];
  }
}

void rotary(Rows x, int64_t heads, int64_t head_dim, const int64_t* positions, int64_t rows,
            const float* cos_sin, int64_t rot_dim, bool is_neox) {
  const auto rotate = is_neox ? rotate_halves : rotate_pairs;
  for (int64_t r = 0; r < rows; ++r) {
    const float* cos = cos_sin + positions[r] * rot_dim;
    for (int64_t h = 0; h < heads; ++h)
      rotate(x.row(r) + h * head_dim, cos, cos + rot_dim / 2, rot_dim / 2);
  }
}

void silu_and_mul(Rows out, ConstRows x, int64_t rows, int64_t inner) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* gate = x.row(r);
    for (int64_t i = 0; i < inner; i += kLanes) {
      const int64_t n = inner - i;
      const F g = load_some(gate + i, n), up = load_some(gate + inner + i, n);
      const F silu = div(g, add(set1(1.0f), exp_of(sub(zero(), g))));
      store_some(out.row(r) + i, mul(silu, up), n);
    }
  }
}

// gelu(x) = x (1 + tanh(u)) / 2 = x / (1 + e^(-2 u)) with u = sqrt(2 / pi) (x + 0.044715 x^3)
// (Hendrycks and Gimpel 2016, arXiv 1606.08415).
inline F gelu_tanh(F x) {
  const F cubic = fma(mul(mul(x, x), set1(0.044715f)), x, x);
  return div(x, add(set1(1.0f), exp_of(mul(cubic, set1(-1.5957691216f)))));
}

void gelu_tanh_and_mul(Rows out, ConstRows x, int64_t rows, int64_t inner) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* gate = x.row(r);
    for (int64_t i = 0; i < inner; i += kLanes) {
      const int64_t n = inner - i;
      const F up = load_some(gate + inner + i, n);
      store_some(out.row(r) + i, mul(gelu_tanh(load_some(gate + i, n)), up), n);
    }
  }
}

void soft_cap(Rows x, int64_t rows, int64_t width, float cap) {
  for (int64_t r = 0; r < rows; ++r) {
    float* row = x.row(r);
    for (int64_t i = 0; i < width; i += kLanes)
      store_some(row + i, capped(load_some(row + i, width - i), cap), width - i);
  }
}

void store_row(void* dst, DType dtype, const float* src, int64_t n) {
  if (dtype == DType::kF32) {
    memcpy(dst, src, static_cast<size_t>(n) * 4);
    return;
  }
  uint16_t* out = static_cast<uint16_t*>(dst);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store_bf16(out + i, load(src + i));
  for (; i < n; ++i) out[i] = f32_to_bf16(src[i]);
}

template <DType D>
void load_row_as(float* dst, const void* src, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(dst + i, load_as<D>(src, i));
  if (i < n) store_n(dst + i, load_as_n<D>(src, i, n - i), n - i);
}

void load_row(float* dst, const void* src, DType dtype, int64_t n) {
  switch (dtype) {
    case DType::kF32: return load_row_as<DType::kF32>(dst, src, n);
    case DType::kF16: return load_row_as<DType::kF16>(dst, src, n);
    case DType::kBF16: return load_row_as<DType::kBF16>(dst, src, n);
  }
}
