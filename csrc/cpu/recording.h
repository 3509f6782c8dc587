// SPDX-License-Identifier: Apache-2.0

// A list of op calls that can be made again in one call. Owns recordings; knows no op and no tensor.
//
// A decode step is the same few hundred ops on the same memory each time; what changes is what lies
// in that memory. Between begin_recording() and end_recording() every op of this thread runs as
// usual and leaves its call behind, so the step that is recorded is also computed. The caller keeps
// the memory of all arguments alive as long as the recording.

#pragma once

#include <cstdint>
#include <functional>
#include <utility>

namespace vllm_kernels {

// Throws std::runtime_error when this thread records already.
void begin_recording();
// The number of the finished recording. Throws std::runtime_error when this thread does not record.
int64_t end_recording();
bool is_recording();

// Makes the calls of a recording, in order. Throws std::runtime_error for an unknown number and
// whatever a call throws; the calls after it are not made then.
void replay(int64_t recording);
// Forgets a recording; an unknown number is fine.
void drop_recording(int64_t recording);

void append_to_recording(std::function<void()> call);

// Makes a call, and keeps it when this thread records.
template <class Call>
void perform(Call call) {
  call();
  if (is_recording()) append_to_recording(std::move(call));
}

}  // namespace vllm_kernels
