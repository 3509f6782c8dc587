// SPDX-License-Identifier: Apache-2.0

// Runs the kernels of the CPU it finds, without torch or Python, so that an emulated CPU can run it:
// an instruction that the CPU lacks ends the program with SIGILL. Prints the name of the kernels and
// checks each result against the scalar table.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "cpu/isa.h"
#include "cpu/ops.h"
#include "cpu/thread_pool.h"

namespace {

using namespace vllm_kernels;

std::mt19937 numbers(7);
int failures = 0;

std::vector<float> random_floats(size_t n, float scale = 1.0f) {
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> v(n);
  for (float& f : v) f = normal(numbers);
  return v;
}

void compare(const char* name, const std::vector<float>& found, const std::vector<float>& expected,
             float tolerance) {
  float largest = 0.0f, error = 0.0f;
  for (size_t i = 0; i < found.size(); ++i) {
    largest = std::fmax(largest, std::fabs(expected[i]));
    error = std::fmax(error, std::fabs(found[i] - expected[i]));
    if (std::isnan(found[i])) error = INFINITY;
  }
  const bool good = error <= tolerance * largest;
  if (!good) ++failures;
  std::printf("%-24s error %.2g of the largest, limit %.2g%s\n", name, error / largest, tolerance,
              good ? "" : "  FAILED");
}

// Valid blocks: random bits under small f16 scales (0x1c00 is 2^-8).
std::vector<uint8_t> random_blocks(int64_t qtype, int64_t n, int64_t k) {
  const BlockFormat format = block_format(qtype);
  std::vector<uint8_t> raw(static_cast<size_t>(n * k / format.columns * format.bytes));
  for (uint8_t& byte : raw) byte = static_cast<uint8_t>(numbers());
  const int64_t scale = qtype == kQ6_K ? 208 : 0;
  for (size_t b = 0; b < raw.size(); b += static_cast<size_t>(format.bytes)) {
    uint8_t* block = raw.data() + b;
    block[scale] = 0, block[scale + 1] = 0x1c;
    if (format.has_min) block[2] = 0, block[3] = 0x1c;
  }
  return raw;
}

void check_quantized(int64_t qtype, const char* name, int64_t m) {
  constexpr int64_t n = 40, k = 512;
  const std::vector<uint8_t> raw = random_blocks(qtype, n, k);
  std::vector<uint8_t> packed(static_cast<size_t>(packed_bytes(qtype, n, k)));
  ops::quant_repack(packed.data(), raw.data(), qtype, n, k);
  std::vector<float> weight(static_cast<size_t>(n * k)), x = random_floats(m * k);
  ops::dequantize(weight.data(), raw.data(), qtype, n * k / kBlock);
  std::vector<float> found(static_cast<size_t>(m * n)), expected = found;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0.0;
      for (int64_t c = 0; c < k; ++c) sum += static_cast<double>(x[i * k + c]) * weight[j * k + c];
      expected[i * n + j] = static_cast<float>(sum);
    }
  const float fine = fine_form(qtype) == DigitForm::kShared ? 2e-3f : 1e-4f;
  for (int64_t coarse : {int64_t{0}, n}) {
    ops::quant_linear({{found.data(), n}, {x.data(), k}, packed.data(), nullptr, qtype, m, n, k, coarse,
                       {}, {}});
    compare(name, found, expected, coarse ? 2e-2f : fine);
  }
}

void check_dense(DType dtype, const char* name, float tolerance) {
  constexpr int64_t m = 17, n = 37, k = 101;
  std::vector<float> weight = random_floats(n * k), x = random_floats(m * k), found(m * n);
  std::vector<uint8_t> stored(static_cast<size_t>(n * k * dtype_bytes(dtype)));
  for (float& w : weight) w = bf16_to_f32(f32_to_bf16(w));
  kernels().store_row(stored.data(), dtype, weight.data(), n * k);
  const int64_t tiles = dense_tiles(n);
  std::vector<uint8_t> packed(static_cast<size_t>(tiles * dense_units(dtype, k) * unit_bytes(dtype)));
  ops::linear_pack(packed.data(), stored.data(), dtype, 0, n, k);
  ops::linear({{found.data(), n}, {x.data(), k}, packed.data(), dtype, nullptr, m, n, k, nullptr});
  std::vector<float> expected(m * n);
  scalar::kernel_table().linear(
      {{expected.data(), n}, {x.data(), k}, packed.data(), dtype, nullptr, m, n, k, nullptr}, 0, tiles,
      0, m);
  compare(name, found, expected, tolerance);
}

// One sequence of 50 tokens of context, the last `queries` of them asked.
void check_attention(DType dtype, const char* name, float tolerance, int64_t queries) {
  constexpr int64_t heads = 4, kv_heads = 2, dim = 64, block = 16, blocks = 5, context = 50;
  constexpr int64_t size = blocks * kv_heads * block * dim;
  std::vector<float> keys = random_floats(size), values = random_floats(size);
  std::vector<float> q = random_floats(queries * heads * dim), found(q.size()), expected(q.size());
  for (float& f : keys) f = bf16_to_f32(f32_to_bf16(f));
  for (float& f : values) f = bf16_to_f32(f32_to_bf16(f));
  std::vector<uint8_t> k(size * dtype_bytes(dtype)), v = k;
  kernels().store_row(k.data(), dtype, keys.data(), size);
  kernels().store_row(v.data(), dtype, values.data(), size);
  const int32_t table[] = {4, 0, 2, 1}, length = context;
  const int32_t start[] = {0, static_cast<int32_t>(queries)};
  AttentionArgs args{{found.data(), heads * dim}, {q.data(), heads * dim}, k.data(), v.data(), dtype,
                     table, 4, heads, kv_heads, block, dim, 0.125f};
  ops::paged_attention(args, &length, start, 1);
  args.out.data = expected.data();
  std::vector<float> scratch(context);
  for (int64_t t = 0; t < queries; ++t)
    for (int64_t h = 0; h < kv_heads; ++h) {
      const AttentionItem item{0, t, 1, context - queries + t, h};
      scalar::kernel_table().attention(args, &item, 1, scratch.data());
    }
  compare(name, found, expected, tolerance);
}

// `op(table, x, out)` on 3 rows of 100.
void check_rows(const char* name,
                const std::function<void(const KernelTable&, Rows, Rows)>& op) {
  constexpr int64_t rows = 3, columns = 100;
  const std::vector<float> x = random_floats(rows * columns);
  std::vector<float> x0 = x, x1 = x, found(rows * columns), expected(rows * columns);
  op(kernels(), {x0.data(), columns}, {found.data(), columns});
  op(scalar::kernel_table(), {x1.data(), columns}, {expected.data(), columns});
  compare(name, found, expected, 1e-5f);
  compare(name, x0, x1, 1e-5f);
}

void check_elementwise() {
  const std::vector<float> weight = random_floats(100), angles = random_floats(64 * 20);
  const int64_t positions[] = {3, 0, 60};
  const auto constant = [](Rows r) { return ConstRows{r.data, r.stride}; };
  check_rows("rms_norm", [&](const KernelTable& t, Rows x, Rows out) {
    t.rms_norm(out, constant(x), weight.data(), 3, 100, 1e-5f);
  });
  check_rows("fused_add_rms_norm", [&](const KernelTable& t, Rows x, Rows out) {
    t.fused_add_rms_norm(x, out, weight.data(), 3, 100, 1e-5f);
  });
  check_rows("silu_and_mul", [&](const KernelTable& t, Rows x, Rows out) {
    t.silu_and_mul(out, constant(x), 3, 50);
  });
  for (bool neox : {false, true})
    check_rows("rotary", [&](const KernelTable& t, Rows x, Rows) {
      t.rotary(x, 5, 20, positions, 3, angles.data(), 20, neox);
    });
  check_rows("reductions", [&](const KernelTable& t, Rows x, Rows out) {
    for (int64_t r = 0; r < 3; ++r) {
      const float* row = x.row(r);
      float* o = out.row(r);
      o[0] = static_cast<float>(t.argmax(row, 100));
      o[1] = t.total(row, 100);
      o[2] = static_cast<float>(t.exp_sum(row, 100, 1.0f, 0.5f));
      o[3] = static_cast<float>(t.next_above(row, 7, 100, 0.5f));
      o[4] = static_cast<float>(t.count_above(row, 100, 0.5f));
      o[5] = static_cast<float>(t.exp_row(o + 6, row, 90, 1.0f, 0.5f));
    }
  });
}

int run_avx2() {
#if VLLM_HAVE_AVX2
  const std::vector<float> x = random_floats(100);
  std::printf("%g\n", avx2::kernel_table().total(x.data(), 100));
#endif
  return 0;
}

}  // namespace

// With an argument, runs one AVX2 kernel whatever the CPU is, to see that the emulation refuses it.
int main(int argc, char**) {
  if (argc > 1) return run_avx2();
  std::printf("kernels: %s\n", kernels().isa);
  set_num_threads(2);
  const std::pair<int64_t, const char*> types[] = {
      {kQ4_0, "Q4_0"}, {kQ4_1, "Q4_1"}, {kQ5_0, "Q5_0"}, {kQ5_1, "Q5_1"},
      {kQ8_0, "Q8_0"}, {kQ4_K, "Q4_K"}, {kQ5_K, "Q5_K"}, {kQ6_K, "Q6_K"}};
  for (const auto& [qtype, name] : types)
    for (int64_t m : {1, 3, 11}) check_quantized(qtype, name, m);
  // AVX-512 multiplies bf16: x, queries and weights of attention are rounded to it. No other ISA does.
  const std::string isa = kernels().isa;
  const float pairs = isa == "avx512" || isa == "amx" ? 5e-3f : 1e-5f;
  check_dense(DType::kF32, "linear f32", 1e-5f);
  check_dense(DType::kBF16, "linear bf16", pairs);
  for (int64_t queries : {1, 7, 50}) {
    check_attention(DType::kF32, "attention f32", 1e-5f, queries);
    check_attention(DType::kBF16, "attention bf16", pairs, queries);
  }
  check_elementwise();
  std::printf("%d failed\n", failures);
  std::fflush(stdout);
  std::_Exit(failures ? 1 : 0);  // the pool's threads still sleep
}
