// SPDX-License-Identifier: Apache-2.0

// The AVX-512 kernel table. The kernels of cpu/vec are compiled here, in this ISA's namespace and,
// but for the table, without external linkage.

#include "cpu/avx512/quant.h"
#include "cpu/avx512/vec.h"

namespace vllm_kernels::avx512 {
namespace {

constexpr int kStripRows = 12;

#include "cpu/vec/common.inl"

#include "cpu/vec/attention.inl"
#include "cpu/vec/elementwise.inl"
#include "cpu/vec/linear.inl"
#include "cpu/vec/sampling.inl"

constexpr KernelTable kTable = {
    .isa = "avx512",
    .rms_norm = rms_norm,
    .fused_add_rms_norm = fused_add_rms_norm,
    .rotary = rotary,
    .silu_and_mul = silu_and_mul,
    .gelu_tanh_and_mul = gelu_tanh_and_mul,
    .soft_cap = soft_cap,
    .store_row = store_row,
    .load_row = load_row,
    .attention_rows = kMaxRows,
    .attention_takes = attention_takes,
    .attention_needs_scratch = false,
    .attention = attention,
    .strip_rows = kStripRows,
    .strip_words = strip_words,
    .make_strip = make_strip,
    .linear = linear,
    .quantize_row = quantize_row,
    .quant_linear = quant_linear,
    .argmax = argmax,
    .total = total,
    .exp_row = exp_row,
    .exp_sum = exp_sum,
    .next_above = next_above,
    .count_above = count_above,
};

}  // namespace

const KernelTable& kernel_table() { return kTable; }

}  // namespace vllm_kernels::avx512
