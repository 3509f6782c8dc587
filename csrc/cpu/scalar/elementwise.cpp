// SPDX-License-Identifier: Apache-2.0

// Scalar reference of norm, rotary embedding, activation and format conversion. Sums are in double,
// in ascending order, so that a result depends on its own row alone.

#include "cpu/scalar/kernels.h"

#include <cmath>

namespace vllm_kernels::scalar {
namespace {

float inverse_rms(const float* x, int64_t hidden, float eps) {
  double sum = 0.0;
  for (int64_t i = 0; i < hidden; ++i) sum += static_cast<double>(x[i]) * x[i];
  return static_cast<float>(1.0 / std::sqrt(sum / static_cast<double>(hidden) + eps));
}

void rotate_pair(float& a, float& b, float cos, float sin) {
  const float first = a * cos - b * sin;
  b = b * cos + a * sin;
  a = first;
}

}  // namespace

void rms_norm(Rows out, ConstRows x, const float* weight, int64_t rows, int64_t hidden, float eps) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* in = x.row(r);
    float* o = out.row(r);
    const float scale = inverse_rms(in, hidden, eps);
    for (int64_t i = 0; i < hidden; ++i) o[i] = in[i] * scale * weight[i];
  }
}

void fused_add_rms_norm(Rows x, Rows residual, const float* weight, int64_t rows, int64_t hidden,
                        float eps) {
  for (int64_t r = 0; r < rows; ++r) {
    float* in = x.row(r);
    float* sum = residual.row(r);
    for (int64_t i = 0; i < hidden; ++i) sum[i] += in[i];
    const float scale = inverse_rms(sum, hidden, eps);
    for (int64_t i = 0; i < hidden; ++i) in[i] = sum[i] * scale * weight[i];
  }
}

void rotary(Rows x, int64_t heads, int64_t head_dim, const int64_t* positions, int64_t rows,
            const float* cos_sin, int64_t rot_dim, bool is_neox) {
  const int64_t half = rot_dim / 2;
  // neox pairs element i with i + half; the interleaved style pairs 2 i with 2 i + 1.
  const int64_t step = is_neox ? 1 : 2, partner = is_neox ? half : 1;
  for (int64_t r = 0; r < rows; ++r) {
    const float* cos = cos_sin + positions[r] * rot_dim;
    const float* sin = cos + half;
    for (int64_t h = 0; h < heads; ++h) {
      float* head = x.row(r) + h * head_dim;
      for (int64_t i = 0; i < half; ++i)
        rotate_pair(head[i * step], head[i * step + partner], cos[i], sin[i]);
    }
  }
}

void silu_and_mul(Rows out, ConstRows x, int64_t rows, int64_t inner) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* gate = x.row(r);
    const float* up = gate + inner;
    float* o = out.row(r);
    for (int64_t i = 0; i < inner; ++i) {
      const double g = gate[i];
      o[i] = static_cast<float>(g / (1.0 + std::exp(-g)) * up[i]);
    }
  }
}

void gelu_tanh_and_mul(Rows out, ConstRows x, int64_t rows, int64_t inner) {
  constexpr double kRoot = 0.79788456080286535588;  // sqrt(2 / pi)
  for (int64_t r = 0; r < rows; ++r) {
    const float* gate = x.row(r);
    const float* up = gate + inner;
    float* o = out.row(r);
    for (int64_t i = 0; i < inner; ++i) {
      const double g = gate[i];
      const double gelu = 0.5 * g * (1.0 + std::tanh(kRoot * (g + 0.044715 * g * g * g)));
      o[i] = static_cast<float>(gelu * up[i]);
    }
  }
}

void soft_cap(Rows x, int64_t rows, int64_t width, float cap) {
  for (int64_t r = 0; r < rows; ++r) {
    float* row = x.row(r);
    for (int64_t i = 0; i < width; ++i)
      row[i] = static_cast<float>(cap * std::tanh(static_cast<double>(row[i]) / cap));
  }
}

void store_row(void* dst, DType dtype, const float* src, int64_t n) {
  if (dtype == DType::kF32) {
    memcpy(dst, src, static_cast<size_t>(n) * 4);
    return;
  }
  uint16_t* out = static_cast<uint16_t*>(dst);
  for (int64_t i = 0; i < n; ++i) out[i] = f32_to_bf16(src[i]);
}

void load_row(float* dst, const void* src, DType dtype, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dst[i] = load_element(src, dtype, i);
}

}  // namespace vllm_kernels::scalar
