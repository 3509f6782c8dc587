// SPDX-License-Identifier: Apache-2.0

// Checks of op arguments. Owns the wording: every message names the op, the argument, what was
// passed and what is accepted. Shared by the CPU and the CUDA bindings; knows no kernel.

#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <initializer_list>
#include <sstream>
#include <stdexcept>
#include <string>

#include "formats.h"

namespace vllm_kernels {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

class Check {
 public:
  explicit Check(const char* op) : op_(op) {}

  template <class... Parts>
  void require(bool ok, const Parts&... parts) const {
    if (ok) return;
    std::ostringstream message;
    message << op_ << ": ";
    ((message << parts), ...);
    throw std::runtime_error(message.str());
  }

  void cpu(const Tensor& t, const char* name) const {
    require(t.is_cpu(), name, " is not on the CPU");
  }

  void dtype(const Tensor& t, const char* name, std::initializer_list<ScalarType> accepted) const {
    for (ScalarType type : accepted)
      if (t.scalar_type() == type) return;
    std::ostringstream names;
    for (ScalarType type : accepted) names << (names.tellp() ? " or " : "") << type_name(type);
    require(false, name, " has dtype ", type_name(t.scalar_type()), ", expected ", names.str());
  }

  // An expected size of -1 takes any.
  void shape(const Tensor& t, const char* name, std::initializer_list<int64_t> expected) const {
    bool ok = t.dim() == static_cast<int64_t>(expected.size());
    int64_t d = 0;
    for (int64_t size : expected) ok = ok && (size < 0 || t.size(d) == size), ++d;
    if (!ok) require(false, name, " has shape ", sizes_text(t), ", expected ", list_text(expected));
  }

  void contiguous(const Tensor& t, const char* name) const {
    require(t.is_contiguous(), name, " must be contiguous, but has shape ", sizes_text(t),
            " and strides ", strides_text(t));
  }

  // Two dimensions, elements of a row adjacent, rows at any distance that keeps them apart.
  void rows(const Tensor& t, const char* name) const {
    require(t.dim() == 2, name, " has shape ", sizes_text(t), ", expected two dimensions");
    const bool ok =
        (t.size(1) <= 1 || t.stride(1) == 1) && (t.size(0) <= 1 || t.stride(0) >= t.size(1));
    require(ok, name, " must have adjacent elements in each row, but has shape ", sizes_text(t),
            " and strides ", strides_text(t));
  }

  // Writes to one would change the other while it is read.
  void distinct(const Tensor& a, const char* a_name, const Tensor& b, const char* b_name) const {
    require(a.numel() == 0 || a.data_ptr() != b.data_ptr(), a_name, " and ", b_name,
            " must not be the same memory");
  }

  void in_range(int64_t value, const char* name, int64_t low, int64_t high) const {
    require(value >= low && value <= high, name, " is ", value, ", expected ", low, " to ", high);
  }

  static std::string sizes_text(const Tensor& t) {
    std::ostringstream text;
    for (int64_t d = 0; d < t.dim(); ++d) text << (d ? ", " : "[") << t.size(d);
    return text.str() + (t.dim() ? "]" : "[]");
  }

  static std::string strides_text(const Tensor& t) {
    std::ostringstream text;
    for (int64_t d = 0; d < t.dim(); ++d) text << (d ? ", " : "[") << t.stride(d);
    return text.str() + (t.dim() ? "]" : "[]");
  }

  static const char* type_name(ScalarType type) {
    switch (type) {
      case ScalarType::Float: return "float32";
      case ScalarType::Double: return "float64";
      case ScalarType::Half: return "float16";
      case ScalarType::BFloat16: return "bfloat16";
      case ScalarType::Float8_e4m3fn: return "float8_e4m3fn";
      case ScalarType::Byte: return "uint8";
      case ScalarType::Char: return "int8";
      case ScalarType::Short: return "int16";
      case ScalarType::Int: return "int32";
      case ScalarType::Long: return "int64";
      case ScalarType::Bool: return "bool";
      default: return "another type";
    }
  }

 private:
  static std::string list_text(std::initializer_list<int64_t> sizes) {
    std::ostringstream text;
    text << "[";
    const char* separator = "";
    for (int64_t size : sizes) {
      text << separator;
      if (size < 0)
        text << "any";
      else
        text << size;
      separator = ", ";
    }
    return text.str() + "]";
  }

  const char* op_;
};

}  // namespace vllm_kernels
