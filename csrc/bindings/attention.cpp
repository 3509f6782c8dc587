// SPDX-License-Identifier: Apache-2.0

// CPU binding of paged attention.

#include "bindings/cpu_args.h"

namespace vllm_kernels {
namespace {

void check_caches(const Check& check, const Tensor& k_cache, const Tensor& v_cache) {
  check.cpu(k_cache, "k_cache");
  check.cpu(v_cache, "v_cache");
  check.dtype(k_cache, "k_cache", {ScalarType::Float, ScalarType::BFloat16});
  check.dtype(v_cache, "v_cache", {k_cache.scalar_type()});
  check.shape(k_cache, "k_cache", {-1, -1, -1, -1});
  check.shape(v_cache, "v_cache",
              {k_cache.size(0), k_cache.size(1), k_cache.size(2), k_cache.size(3)});
  check.contiguous(k_cache, "k_cache");
  check.contiguous(v_cache, "v_cache");
}

// Every block that the kernel will read exists; query ranges ascend and fit their sequences.
void check_sequences(const Check& check, const AttentionArgs& args, const int32_t* lens,
                     const int32_t* start, int64_t sequences, int64_t tokens, int64_t blocks) {
  const int64_t block_size = args.block_size, max_blocks = args.max_blocks;
  check.require(start[0] == 0, "query_start_loc[0] is ", start[0], ", expected 0");
  for (int64_t s = 0; s < sequences; ++s) {
    const int64_t queries = static_cast<int64_t>(start[s + 1]) - start[s];
    check.require(queries >= 0, "query_start_loc[", s + 1, "] is ", start[s + 1],
                  ", below the entry before it, ", start[s]);
    check.require(lens[s] >= queries && lens[s] <= max_blocks * block_size, "seq_lens[", s, "] is ",
                  lens[s], ", expected ", queries, " (its query tokens) to ",
                  max_blocks * block_size, " (block_tables x block size)");
    const int32_t* table = args.block_tables + s * max_blocks;
    for (int64_t b = 0; queries > 0 && b * block_size < lens[s]; ++b)
      check.require(table[b] >= 0 && table[b] < blocks, "block_tables[", s, ", ", b, "] is ",
                    table[b], ", expected 0 to ", blocks - 1);
  }
  check.require(start[sequences] == tokens, "query_start_loc ends with ", start[sequences],
                ", expected the number of query tokens, ", tokens);
}

void paged_attention(const Tensor& out, const Tensor& q, const Tensor& k_cache,
                     const Tensor& v_cache, const Tensor& block_tables, const Tensor& seq_lens,
                     const Tensor& query_start_loc, double scale, int64_t window,
                     double soft_cap) {
  const Check check("paged_attention");
  check_caches(check, k_cache, v_cache);
  const int64_t kv_heads = k_cache.size(1), head_dim = k_cache.size(3);
  check_f32_rows(check, q, "q");
  check_f32_rows(check, out, "out");
  check.shape(out, "out", {q.size(0), q.size(1)});
  check.distinct(out, "out", q, "q");
  const int64_t kv_width = kv_heads * head_dim;
  check.require(kv_width > 0 && k_cache.size(2) > 0, "k_cache has shape ",
                Check::sizes_text(k_cache), ", only its first size may be 0");
  check.require(q.size(1) % kv_width == 0, "q has shape ", Check::sizes_text(q),
                ", its second size must be a multiple of kv heads x head dim = ", kv_width);
  check_plain(check, seq_lens, "seq_lens", ScalarType::Int, {-1});
  check_plain(check, query_start_loc, "query_start_loc", ScalarType::Int, {seq_lens.size(0) + 1});
  check_plain(check, block_tables, "block_tables", ScalarType::Int, {seq_lens.size(0), -1});
  check.require(window >= 0, "window is ", window, ", expected 0 (none) or more");
  check.require(soft_cap >= 0.0, "soft_cap is ", soft_cap, ", expected 0 (off) or more");
  const AttentionArgs args{rows_of(out),
                           const_rows_of(q),
                           k_cache.const_data_ptr(),
                           v_cache.const_data_ptr(),
                           dense_type(k_cache),
                           data_of<int32_t>(block_tables),
                           block_tables.size(1),
                           q.size(1) / head_dim,
                           kv_heads,
                           k_cache.size(2),
                           head_dim,
                           static_cast<float>(scale),
                           window,
                           static_cast<float>(soft_cap)};
  perform([=, lens = data_of<int32_t>(seq_lens), start = data_of<int32_t>(query_start_loc),
           sequences = seq_lens.size(0), tokens = q.size(0), blocks = k_cache.size(0)] {
    check_sequences(check, args, lens, start, sequences, tokens, blocks);
    ops::paged_attention(args, lens, start, sequences);
  });
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CPU, m) {
  m.impl("paged_attention", TORCH_BOX(&paged_attention));
}

}  // namespace
}  // namespace vllm_kernels
