// SPDX-License-Identifier: Apache-2.0

// Devices and streams of CUDA ops.

#include "bindings/cuda_args.h"

// Part of torch's stable C functions since 2.8, but its header declares it only for builds that
// have the CUDA toolkit's ATen headers. Weak, so that the library also loads beside a torch without
// CUDA, where no CUDA tensor can reach it.
extern "C" __attribute__((weak)) AOTITorchError
aoti_torch_get_current_cuda_stream(int32_t device_index, void** ret_stream);

namespace vllm_kernels {
namespace {

std::string device_text(const Tensor& t) {
  if (t.is_cpu()) return "the CPU";
  if (!t.is_cuda()) return "another kind of device";
  return "cuda:" + std::to_string(t.get_device_index());
}

int32_t common_device(const Check& check, std::initializer_list<Named> tensors) {
  const Named& first = *tensors.begin();
  for (const Named& named : tensors) {
    check.require(named.tensor.is_cuda(), named.name, " is on ", device_text(named.tensor),
                  ", expected a CUDA device");
    check.require(named.tensor.get_device_index() == first.tensor.get_device_index(), named.name,
                  " is on ", device_text(named.tensor), ", but ", first.name, " is on ",
                  device_text(first.tensor));
  }
  return first.tensor.get_device_index();
}

}  // namespace

Launch::Launch(const Check& check, std::initializer_list<Named> tensors) : check_(check) {
  const int32_t device = common_device(check, tensors);
  check.require(aoti_torch_get_current_cuda_stream != nullptr,
                "this torch was built without CUDA, install one with CUDA to use CUDA tensors");
  guard_.emplace(device);
  // The CUDA runtime in this library is not torch's copy: it is told the device, too. Leaving the
  // guard puts the thread's context back for both.
  finish(cudaSetDevice(device));
  void* stream = nullptr;
  check.require(aoti_torch_get_current_cuda_stream(device, &stream) == AOTI_TORCH_SUCCESS,
                "torch has no current stream for cuda:", device);
  stream_ = static_cast<cudaStream_t>(stream);
}

void Launch::finish(cudaError_t error) const {
  check_.require(error == cudaSuccess, "CUDA error ", static_cast<int>(error), ": ",
                 cudaGetErrorString(error));
}

}  // namespace vllm_kernels
