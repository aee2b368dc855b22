// Small tasks that two cores share.

#pragma once

#include <functional>

#include "prepared.h"

namespace {

// Tasks by number, which are done by this thread from the first on and, if there is another core, by a second thread
// from the last on. What they share they may only read.
class Pair {
 public:
  explicit Pair(std::function<void(int32_t)> task) : task_(std::move(task)) {
    if (cores() > 1) other_ = std::async(std::launch::async | std::launch::deferred, [this] { help(); });
  }

  ~Pair() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      ended_ = true;
    }
    begun_.notify_one();
  }

  // Does tasks 0..count-1, and returns when all are done. Fewer than 2^20.
  void run(int32_t count) {
    left_ = count;
    open_ = uint64_t(++round_) << 40 | uint64_t(count) << 20;
    if (asleep_) {
      const std::lock_guard<std::mutex> lock(mutex_);
      begun_.notify_one();
    }
    for (int32_t at; (at = claim(false)) >= 0;) perform(at);
    for (int32_t turns = 0; left_ > 0; ++turns) turns < kTurns ? pause() : std::this_thread::yield();
  }

 private:
  static constexpr uint64_t kMost = (1 << 20) - 1;
  static constexpr int32_t kTurns = 1000;  // some ten microseconds, much longer than it takes from one run to the next

  static void pause() {
#ifdef __SSE2__
    _mm_pause();
#endif
  }

  // The number of a task that nobody has begun, -1 if there is none.
  int32_t claim(bool last) {
    for (uint64_t open = open_;;) {
      const uint64_t begin = open & kMost, end = open >> 20 & kMost;
      if (begin == end) return -1;
      const uint64_t left = last ? open - (uint64_t{1} << 20) : open + 1;
      if (open_.compare_exchange_weak(open, left)) return last ? end - 1 : begin;
    }
  }

  void perform(int32_t at) {
    task_(at);
    --left_;
  }

  void help() {
    for (int32_t turns = 0; !ended_;) {
      if (const int32_t at = claim(true); at >= 0) {
        perform(at);
        turns = 0;
      } else if (++turns < kTurns) {
        pause();
      } else {
        std::unique_lock<std::mutex> lock(mutex_);
        asleep_ = true;
        begun_.wait(lock, [this] { return ended_ || (open_ & kMost) != (open_ >> 20 & kMost); });
        asleep_ = false;
        turns = 0;
      }
    }
  }

  const std::function<void(int32_t)> task_;
  std::atomic<uint64_t> open_{0};  // tasks that nobody has begun: 24 bits of `round_`, 20 of their end, 20 of their begin
  std::atomic<int32_t> left_{0};
  std::atomic<bool> ended_{false}, asleep_{false};
  uint32_t round_ = 0;
  std::mutex mutex_;
  std::condition_variable begun_;
  std::future<void> other_;
};

}  // namespace
