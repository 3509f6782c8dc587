// SPDX-License-Identifier: Apache-2.0

// Scalar reference kernels: the meaning of each op, in plain loops. They are batch-invariant: an
// output element is summed in one fixed order, whatever the batch, the chunking and the number of
// threads. Signatures are those of KernelTable.

#pragma once

#include "cpu_kernels.h"

namespace vllm_kernels::scalar {

void rms_norm(Rows out, ConstRows x, const float* weight, int64_t rows, int64_t hidden, float eps);
void fused_add_rms_norm(Rows x, Rows residual, const float* weight, int64_t rows, int64_t hidden,
                        float eps);
void rotary(Rows x, int64_t heads, int64_t head_dim, const int64_t* positions, int64_t rows,
            const float* cos_sin, int64_t rot_dim, bool is_neox);
void silu_and_mul(Rows out, ConstRows x, int64_t rows, int64_t inner);
void gelu_tanh_and_mul(Rows out, ConstRows x, int64_t rows, int64_t inner);
void soft_cap(Rows x, int64_t rows, int64_t width, float cap);
void store_row(void* dst, DType dtype, const float* src, int64_t n);
void load_row(float* dst, const void* src, DType dtype, int64_t n);
void attention(const AttentionArgs& args, const AttentionItem* items, int64_t count, float* scratch);
void linear(const LinearArgs& args, int64_t t0, int64_t t1, int64_t m0, int64_t m1);
void quant_linear(const QuantLinearArgs& args, int64_t g0, int64_t g1, int64_t m0, int64_t m1);
int64_t argmax(const float* x, int64_t n);
float total(const float* x, int64_t n);
double exp_row(float* dst, const float* x, int64_t n, float max, float scale);
double exp_sum(const float* x, int64_t n, float max, float scale);
int64_t next_above(const float* x, int64_t begin, int64_t n, float value);
int64_t count_above(const float* x, int64_t n, float value);

}  // namespace vllm_kernels::scalar
