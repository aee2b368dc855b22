// Images one after the other, whose inputs another core prepares.

#pragma once

#include <array>
#include <atomic>
#include <future>

#include "batch.h"

namespace {

constexpr int64_t kAhead = 16;
constexpr int64_t kMost = 1 << 16;  // inputs of an image, so that caches hold the images ahead

// Calls `use(image, inputs)` for the images of `latencies` [S, C, H, W] that `learns` [S] names, with inputs that `read`
// their latencies; `local` is copied. If this is the only sequence (`alone`) and there are more cores, another thread
// reads images ahead. An image that it has not read in time, because its core is busy, is read at once: no thread waits.
template <typename Inputs, typename Use>
void each_image(Inputs local, const BytePart& latencies, const bool* learns, bool alone, Use use) {
  const int64_t inputs = latencies.element_count() / std::max<int64_t>(1, latencies.shape[0]);
  std::vector<const uint8_t*> images;
  for (int64_t image = 0; image < latencies.shape[0]; ++image)
    if (learns[image]) images.push_back(latencies.data + image * inputs);
  const int64_t end = images.size();
  const bool helped = alone && end >= kAhead && inputs <= kMost && cores() > 1;
  std::vector<Inputs> ahead(helped ? kAhead : 0, local);  // of images by the rest of their number
  std::array<std::atomic<int64_t>, kAhead> numbers;  // of the images that these are of
  for (auto& number : numbers) number = -1;
  std::atomic<int64_t> now = 0;  // the image in use

  // Reads each image after that in use, as long as there is room.
  auto read_ahead = [&] {
    for (int64_t image = 1;; ++image) {
      // `>=`, because image `now + kAhead` has the place of the image in use, which must not be overwritten.
      for (int64_t used; image >= (used = now) + kAhead;) now.wait(used);
      image = std::max(image, now + 1);
      if (image >= end) return;
      ahead[image % kAhead].read(images[image]);
      numbers[image % kAhead] = image;
    }
  };
  std::future<void> other;
  // `deferred` is for when no thread can be started. The task then never runs, and this thread reads all images itself;
  // with only `async` the call would throw.
  if (helped) other = std::async(std::launch::async | std::launch::deferred, read_ahead);
  for (int64_t image = 0; image < end; ++image) {
    now = image;
    if (image % (kAhead / 2) == 0) now.notify_one();
    const bool prepared = numbers[image % kAhead] == image;
    // Waiting for the other thread instead took 0.062 instead of 0.059 ms for an image of deepr2024, and longer than
    // without its help while another program used its core.
    if (!prepared) local.read(images[image]);
    use((images[image] - latencies.data) / inputs, prepared ? ahead[image % kAhead] : local);
  }
  now = end;
  now.notify_one();
}

}  // namespace
