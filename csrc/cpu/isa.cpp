// SPDX-License-Identifier: Apache-2.0

// Chooses the kernel table from cpuid and VLLM_CPU_ISA. Compiled for the baseline CPU.

#include "cpu/isa.h"

#include "cpu/amx/quant.h"

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace vllm_kernels {
namespace {

struct CpuFeatures {
  bool avx2 = false;
  bool avx512 = false;
  bool amx = false;
};

#if defined(__x86_64__)

// XCR0: which register files the operating system saves (Intel SDM vol. 1, 13.3).
uint64_t extended_control_register() {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

bool has(uint32_t value, int bit) { return (value >> bit) & 1u; }

// Linux hands out the tile registers on request, for the whole process (arch/x86/xstate in its
// documentation); it refuses where a thread's signal stack is too small for them.
bool tiles_granted() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

// Bits from the CPUID tables of the Intel SDM vol. 2: leaf 1, leaf 7 subleaf 0 and subleaf 1.
CpuFeatures detect() {
  CpuFeatures features;
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return features;
  const bool os_saves = has(c, 27), fma = has(c, 12), f16c = has(c, 29);
  if (!os_saves) return features;
  const uint64_t xcr0 = extended_control_register();
  const bool ymm = (xcr0 & 0x06) == 0x06, zmm = (xcr0 & 0xe6) == 0xe6;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return features;
  const uint32_t subleaves = a;
  const bool tiles = (xcr0 & 0x60000) == 0x60000 && has(d, 24) && has(d, 25);  // TILE INT8
  features.avx2 = ymm && fma && f16c && has(b, 5);
  const bool foundation = has(b, 16) && has(b, 17) && has(b, 30) && has(b, 31);  // F DQ BW VL
  const bool vnni = has(c, 11);
  if (subleaves < 1 || !__get_cpuid_count(7, 1, &a, &b, &c, &d)) return features;
  const bool bf16 = has(a, 5);
  features.avx512 = features.avx2 && zmm && foundation && vnni && bf16;
  features.amx = features.avx512 && tiles && tiles_granted();
  return features;
}

#else

CpuFeatures detect() { return {}; }

#endif

#if VLLM_HAVE_AMX

// AVX-512 with a quantized linear layer of its own.
const KernelTable& amx_table() {
  static const KernelTable table = [] {
    KernelTable made = avx512::kernel_table();
    made.isa = "amx";
    made.quant_linear = amx::quant_linear;
    return made;
  }();
  return table;
}

#endif

struct Candidate {
  const char* isa;
  const KernelTable* table;
  bool supported;
};

// Best last.
std::vector<Candidate> candidates() {
  [[maybe_unused]] const CpuFeatures cpu = detect();
  std::vector<Candidate> all{{"scalar", &scalar::kernel_table(), true}};
#if VLLM_HAVE_AVX2
  all.push_back({"avx2", cpu.avx2 ? &avx2::kernel_table() : nullptr, cpu.avx2});
#else
  all.push_back({"avx2", nullptr, false});
#endif
#if VLLM_HAVE_AVX512
  all.push_back({"avx512", cpu.avx512 ? &avx512::kernel_table() : nullptr, cpu.avx512});
#else
  all.push_back({"avx512", nullptr, false});
#endif
#if VLLM_HAVE_AMX
  all.push_back({"amx", cpu.amx ? &amx_table() : nullptr, cpu.amx});
#else
  all.push_back({"amx", nullptr, false});
#endif
  return all;
}

std::string supported_names(const std::vector<Candidate>& all) {
  std::string names;
  for (const Candidate& c : all)
    if (c.supported) names += (names.empty() ? "" : ", ") + std::string(c.isa);
  return names;
}

struct Choice {
  const KernelTable* table = nullptr;
  std::string error;
};

Choice choose() {
  const std::vector<Candidate> all = candidates();
  const char* forced = std::getenv("VLLM_CPU_ISA");
  Choice choice;
  if (forced == nullptr || *forced == '\0') {
    for (const Candidate& c : all)
      if (c.supported) choice.table = c.table;
    return choice;
  }
  bool known = false;
  for (const Candidate& c : all) {
    if (c.isa != std::string(forced)) continue;
    known = true;
    choice.table = c.table;
  }
  if (choice.table == nullptr)
    choice.error = std::string("VLLM_CPU_ISA is '") + forced + "', which " +
                   (known ? "this CPU or build does not support" : "is not known") +
                   "; accepted here: " + supported_names(all) + " (unset chooses the last)";
  return choice;
}

const Choice kChoice = choose();

}  // namespace

const KernelTable& kernels() {
  if (kChoice.table == nullptr) throw std::runtime_error(kChoice.error);
  return *kChoice.table;
}

}  // namespace vllm_kernels
