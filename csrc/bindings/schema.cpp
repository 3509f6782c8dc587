// SPDX-License-Identifier: Apache-2.0

// The ops of torch.ops.vllm_kernels: names and signatures, for every device. Each device's library
// implements them; what the arguments mean is documented in vllm/kernels/ops.py.

#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(vllm_kernels, m) {
  m.def("rms_norm(Tensor(a!) out, Tensor x, Tensor weight, float eps) -> ()");
  m.def("fused_add_rms_norm(Tensor(a!) x, Tensor(b!) residual, Tensor weight, float eps) -> ()");
  m.def(
      "rotary_embedding(Tensor positions, Tensor(a!) q, Tensor(b!) k, int head_dim, "
      "Tensor cos_sin_cache, bool is_neox) -> ()");
  m.def("silu_and_mul(Tensor(a!) out, Tensor x) -> ()");
  m.def("gelu_tanh_and_mul(Tensor(a!) out, Tensor x) -> ()");
  m.def("soft_cap(Tensor(a!) x, float cap) -> ()");
  m.def("scale(Tensor(a!) x, float factor) -> ()");
  m.def("copy_heads(Tensor(a!) out, Tensor x) -> ()");
  m.def(
      "route_experts(Tensor(a!) ids, Tensor(b!) weights, Tensor logits, Tensor? bias, bool sigmoid, "
      "int groups, int top_groups, int group_best, bool renormalize, float factor) -> ()");
  m.def(
      "fused_experts(Tensor(a!) out, Tensor x, Tensor ids, Tensor weights, Tensor gate_up, "
      "int gate_up_type, Tensor down, int down_type, int inner, Tensor? addend) -> ()");
  m.def(
      "kv_write(Tensor k, Tensor v, Tensor(a!) k_cache, Tensor(b!) v_cache, Tensor slot_mapping) "
      "-> ()");
  m.def(
      "paged_attention(Tensor(a!) out, Tensor q, Tensor k_cache, Tensor v_cache, "
      "Tensor block_tables, Tensor seq_lens, Tensor query_start_loc, float scale, int window=0, "
      "float soft_cap=0.0) -> ()");
  m.def("linear_pack(Tensor(a!) packed, Tensor weight, int row) -> ()");
  m.def("linear(Tensor(a!) out, Tensor x, Tensor weight, Tensor? bias) -> ()");
  m.def(
      "fp8_linear(Tensor(a!) out, Tensor x, Tensor weight, Tensor scales, Tensor? bias) -> ()");
  m.def("quant_repack(Tensor raw, int qtype, int n, int k) -> Tensor");
  m.def(
      "quant_linear(Tensor(a!) out, Tensor x, Tensor packed, int qtype, int n, int k, "
      "Tensor? bias, int coarse) -> ()");
  m.def("quant_unpack(Tensor(a!) out, Tensor packed, int qtype) -> ()");
  m.def("dequantize(Tensor(a!) out, Tensor raw, int qtype) -> ()");
  m.def("embedding_dequantize(Tensor(a!) out, Tensor ids, Tensor raw, int qtype) -> ()");
  m.def(
      "fill_decode_inputs(Tensor(a!) token_ids, Tensor(b!) positions, Tensor(c!) slots, "
      "Tensor(d!) seq_lens, Tensor(e!) starts, Tensor(f!) block_tables, Tensor(g!) num_computed, "
      "Tensor rows, Tensor row_tokens, Tensor row_blocks, int block_size) -> ()");
  m.def(
      "append_tokens(Tensor(a!) row_tokens, Tensor rows, Tensor positions, Tensor token_ids) "
      "-> ()");
  m.def("argmax(Tensor(a!) out, Tensor logits) -> ()");
  m.def("choose_greedy(Tensor(a!) out, Tensor(b!) suspect, Tensor hidden, Tensor logits) -> ()");
  m.def("apply_logit_bias(Tensor(a!) logits, Tensor rows, Tensor token_ids, Tensor bias) -> ()");
  m.def(
      "apply_penalties(Tensor(a!) logits, Tensor token_ids, Tensor output_counts, Tensor "
      "in_prompt, "
      "Tensor row_offsets, Tensor repetition, Tensor frequency, Tensor presence) -> ()");
  m.def(
      "token_logprobs_and_ranks(Tensor(a!) logprobs, Tensor(b!) ranks, Tensor logits, "
      "Tensor token_ids) -> ()");
  m.def("topk_logprobs(Tensor(a!) logprobs, Tensor(b!) token_ids, Tensor logits) -> ()");
  m.def(
      "sample_top_k_top_p(Tensor(a!) out, Tensor logits, Tensor temperature, Tensor top_k, "
      "Tensor top_p, Tensor min_p, Tensor uniform) -> ()");
  m.def("cpu_isa() -> str");
  m.def("set_num_threads(int n) -> ()");
  m.def("get_num_threads() -> int");
  m.def("begin_recording() -> ()");
  m.def("end_recording() -> int");
  m.def("drop_recording(int recording) -> ()");
}
