// SPDX-License-Identifier: Apache-2.0

// Ops about the library itself: chosen ISA, threads and recordings.

#include <exception>
#include <string>

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
  m.impl("drop_recording", TORCH_BOX(&drop_recording));
}

}  // namespace

// `replay` for ctypes: null, or why it failed, in words that stay until this thread's next call. Not an op:
// torch's way to one is some hundred cache lines, and kernels have just pushed them out.
extern "C" __attribute__((visibility("default"))) const char* vllm_cpu_replay(
    int64_t recording) noexcept {
  thread_local std::string why;
  try {
    replay(recording);
    return nullptr;
  } catch (const std::exception& error) {
    why = error.what();
    return why.c_str();
  }
}

}  // namespace vllm_kernels
