// SPDX-License-Identifier: Apache-2.0

// Ops about the library itself: chosen ISA, threads and recordings.

#include "bindings/check.h"
#include "cpu/isa.h"
#include "cpu/recording.h"
#include "cpu/thread_pool.h"

namespace vllm_kernels {
namespace {

constexpr int64_t kMaxThreads = 1024;

std::string cpu_isa() { return kernels().isa; }

void set_threads(int64_t n) {
  Check("set_num_threads").in_range(n, "n", 1, kMaxThreads);
  set_num_threads(n);
}

int64_t get_threads() { return num_threads(); }

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CompositeExplicitAutograd, m) {
  m.impl("cpu_isa", TORCH_BOX(&cpu_isa));
  m.impl("set_num_threads", TORCH_BOX(&set_threads));
  m.impl("get_num_threads", TORCH_BOX(&get_threads));
  m.impl("begin_recording", TORCH_BOX(&begin_recording));
  m.impl("end_recording", TORCH_BOX(&end_recording));
  m.impl("replay", TORCH_BOX(&replay));
  m.impl("drop_recording", TORCH_BOX(&drop_recording));
}

}  // namespace
}  // namespace vllm_kernels
