// SPDX-License-Identifier: Apache-2.0

#include "cpu/recording.h"

#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

namespace vllm_kernels {
namespace {

using Calls = std::vector<std::function<void()>>;

thread_local std::unique_ptr<Calls> current;

// Recordings by number. Those handed out are shared, so that one may be dropped while it is replayed.
class Recordings {
 public:
  int64_t keep(Calls calls) {
    std::lock_guard<std::mutex> lock(mutex_);
    recordings_.emplace(++last_, std::make_shared<const Calls>(std::move(calls)));
    return last_;
  }

  std::shared_ptr<const Calls> find(int64_t number) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = recordings_.find(number);
    return found == recordings_.end() ? nullptr : found->second;
  }

  void drop(int64_t number) {
    std::lock_guard<std::mutex> lock(mutex_);
    recordings_.erase(number);
  }

 private:
  std::mutex mutex_;
  std::unordered_map<int64_t, std::shared_ptr<const Calls>> recordings_;
  int64_t last_ = 0;
};

// Never destroyed: a thread may still replay while the process exits.
Recordings& recordings() {
  static Recordings& instance = *new Recordings;
  return instance;
}

}  // namespace

bool is_recording() { return current != nullptr; }

void begin_recording() {
  if (is_recording()) throw std::runtime_error("begin_recording: this thread records already");
  current = std::make_unique<Calls>();
}

int64_t end_recording() {
  if (!is_recording()) throw std::runtime_error("end_recording: this thread does not record");
  const std::unique_ptr<Calls> calls = std::move(current);
  return recordings().keep(std::move(*calls));
}

void append_to_recording(std::function<void()> call) { current->push_back(std::move(call)); }

void replay(int64_t recording) {
  const auto calls = recordings().find(recording);
  if (!calls)
    throw std::runtime_error("replay: recording " + std::to_string(recording) +
                             " does not exist or was dropped");
  if (is_recording()) throw std::runtime_error("replay: this thread records");
  for (const auto& call : *calls) call();
}

void drop_recording(int64_t recording) { recordings().drop(recording); }

}  // namespace vllm_kernels
