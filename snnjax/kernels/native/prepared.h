// The inputs of images to come, which another core prepares.

#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>

#include "common.h"

namespace {

// The inputs of images one after the other. If there are more cores than one, another thread reads those to come; what
// it has not read in time, because its core is busy, is read at once: nobody waits for it. `Inputs` have a method `read`
// of the latencies of one image.
template <typename Inputs>
class Prepared {
 public:
  // Of images [first, end) of so many inputs each; `own` is copied.
  Prepared(Inputs own, int64_t inputs, const uint8_t* latencies, int64_t first, int64_t end)
      : inputs_(inputs), latencies_(latencies), end_(end), now_(first), own_(std::move(own)) {
    if (end - first < kAhead || inputs > kMost || cores() < 2) return;
    for (auto& number : numbers_) number = -1;
    ahead_.assign(kAhead, own_);
    other_ = std::async(std::launch::async | std::launch::deferred, [this] { read_ahead(); });
  }

  ~Prepared() { go_on(end_); }

  // Of an image: the first one, or the one after the last that was asked for.
  const Inputs& of(int64_t image) {
    if (!ahead_.empty()) {
      if (image % (kAhead / 2) == 0) {
        go_on(image);
      } else {
        now_ = image;
      }
      if (numbers_[image % kAhead] == image) return ahead_[image % kAhead];
    }
    own_.read(latencies_ + image * inputs_);
    return own_;
  }

 private:
  static constexpr int64_t kAhead = 16;
  static constexpr int64_t kMost = 1 << 16;  // inputs of an image, so that caches hold those ahead

  void go_on(int64_t image) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      now_ = image;
    }
    moved_.notify_one();
  }

  // Reads each image after that in use, as long as there is room.
  void read_ahead() {
    for (int64_t image = now_ + 1;; ++image) {
      {
        std::unique_lock<std::mutex> lock(mutex_);
        moved_.wait(lock, [&] { return image < now_ + kAhead; });
      }
      image = std::max(image, now_ + 1);
      if (image >= end_) return;
      ahead_[image % kAhead].read(latencies_ + image * inputs_);
      numbers_[image % kAhead] = image;
    }
  }

  int64_t inputs_;
  const uint8_t* latencies_;
  int64_t end_;
  std::atomic<int64_t> now_;  // the image in use
  Inputs own_;
  std::vector<Inputs> ahead_;  // of images by the rest of their number
  std::array<std::atomic<int64_t>, kAhead> numbers_;  // of the images that these are of
  std::mutex mutex_;
  std::condition_variable moved_;
  std::future<void> other_;
};

}  // namespace
