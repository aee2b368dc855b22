// Images one after the other, whose inputs another core prepares.

#pragma once

#include <array>
#include <atomic>
#include <future>

#include "common.h"

namespace {

constexpr int64_t kAhead = 16;
constexpr int64_t kMost = 1 << 16;  // inputs of an image, so that caches hold the images ahead

// Calls `use(image, inputs)` for the existing ones of images [first, end), with inputs that `read` their latencies;
// `local` is copied. With more than one core, another thread reads images ahead; one that it has not read in time,
// because its core is busy, is read at once: no thread waits for it.
template <typename Inputs, typename Use>
void each_image(Inputs local, const Bytes& latencies, int64_t first, int64_t end, Use use) {
  const auto shape = latencies.dimensions();
  const int64_t inputs = shape[1] * shape[2] * shape[3];
  const uint8_t* images = latencies.typed_data();
  first = std::max<int64_t>(first, 0);
  end = std::min<int64_t>(end, shape[0]);
  const bool helped = end - first >= kAhead && inputs <= kMost && cores() > 1;
  std::vector<Inputs> ahead(helped ? kAhead : 0, local);  // of images by the rest of their number
  std::array<std::atomic<int64_t>, kAhead> numbers;  // of the images that these are of
  for (auto& number : numbers) number = -1;
  std::atomic<int64_t> now = first;  // the image in use

  // Reads each image after that in use, as long as there is room.
  auto read_ahead = [&] {
    for (int64_t image = first + 1;; ++image) {
      for (int64_t used; image >= (used = now) + kAhead;) now.wait(used);
      image = std::max(image, now + 1);
      if (image >= end) return;
      ahead[image % kAhead].read(images + image * inputs);
      numbers[image % kAhead] = image;
    }
  };
  std::future<void> other;
  if (helped) other = std::async(std::launch::async | std::launch::deferred, read_ahead);
  for (int64_t image = first; image < end; ++image) {
    now = image;
    if (image % (kAhead / 2) == 0) now.notify_one();
    const bool prepared = numbers[image % kAhead] == image;
    if (!prepared) local.read(images + image * inputs);
    use(image, prepared ? ahead[image % kAhead] : local);
  }
  now = end;
  now.notify_one();
}

}  // namespace
