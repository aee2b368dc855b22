// Small tasks that two cores share.

#pragma once

#include <atomic>
#include <functional>
#include <future>
#include <thread>

#include "common.h"

namespace {

// Tasks by number, which are done by this thread from the first on and, if there is a free core, by a second thread
// from the last on. They may not throw, and only read shared data.
class SharedTasks {
 public:
  SharedTasks(std::function<void(int32_t)> task, bool alone) : task_(std::move(task)) {
    ++live_;
    // `deferred` is for when no thread can be started: this thread then does all tasks, and nothing is thrown.
    if (!alone && core_left()) other_ = std::async(std::launch::async | std::launch::deferred, [this] { help(); });
  }

  ~SharedTasks() {
    --live_;
    open_ = kEnded;
    open_.notify_one();
  }

  // Does tasks 0..count-1, and returns when all are done.
  void run(int32_t count) {
    left_ = count;
    open_ = uint64_t(count) << 32;
    open_.notify_one();
    for (int32_t task; (task = claim(false)) >= 0;) perform(task);
    for (int32_t turns = 0; left_ > 0;) {
      if (turns < kTurns) ++turns, pause();
      else std::this_thread::yield();
    }
  }

 private:
  static constexpr int32_t kTurns = 4000;  // at least some ten microseconds: longer than a task
  static constexpr uint64_t kEnded = -1;  // instead of tasks: there will be no more

  static void pause() {
#if defined(__SSE2__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  // Not where networks side by side take all cores.
  static bool core_left() { return 2 * live_ <= cores(); }

  // The number of a task that nobody has begun, -1 if there is none.
  int32_t claim(bool last) {
    for (uint64_t open = open_;;) {
      const uint32_t begin = open, end = open >> 32;
      if (begin == end) return -1;
      const uint64_t remaining = last ? open - (uint64_t{1} << 32) : open + 1;
      if (open_.compare_exchange_weak(open, remaining)) return last ? end - 1 : begin;
    }
  }

  void perform(int32_t task) noexcept {
    task_(task);
    --left_;
  }

  void help() {
    for (int32_t turns = 0; core_left();) {
      const uint64_t open = open_;
      if (open == kEnded) return;
      if (const int32_t task = claim(true); task >= 0) {
        perform(task);
        turns = 0;
      } else if (turns < kTurns) {
        ++turns, pause();
      } else {
        open_.wait(open);
        turns = 0;
      }
    }
  }

  static inline std::atomic<int32_t> live_{0};

  const std::function<void(int32_t)> task_;
  alignas(64) std::atomic<uint64_t> open_{0};  // tasks that nobody has begun: their end and, in the lower half, begin
  alignas(64) std::atomic<int32_t> left_{0};
  std::future<void> other_;
};

}  // namespace
