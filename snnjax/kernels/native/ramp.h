// Neurons that fire on a ramp: from potentials at the end of a window to latencies in the next one, pooled.

#pragma once

#include "batch.h"

namespace {

// The levels of a ramp, filled up with some that no potential is below.
class Levels {
 public:
  explicit Levels(const FloatPart& levels) : count_(levels.element_count()), half_(std::bit_ceil(count_ + 1) / 2) {
    std::copy_n(levels.data, count_, levels_);
    std::fill_n(levels_ + count_, 256 - count_, kSilent);
  }

  // How many levels are above each potential.
  void search(const float* potential, int64_t size, int32_t* above) const {
    std::fill_n(above, size, 0);
    for (int32_t half = half_; half; half /= 2)
      for (int64_t f = 0; f < size; ++f) above[f] += levels_[above[f] + half - 1] > potential[f] ? half : 0;
  }

 private:
  uint64_t count_;
  int32_t half_;
  float levels_[256];
};

// The earliest spike of each window is that of its largest potential.
void fire_on_ramp(const FloatPart& potential, const FloatPart& levels, const ffi::Dictionary& settings,
                  const BytePart& result) {
  const int64_t height = potential.shape[0], width = potential.shape[1], features = potential.shape[2];
  const Pool pool = pool_of(settings);
  const Levels ramp(levels);
  float* largest = kept<0, float>(features);
  int32_t* above = kept<1, int32_t>(features);
  const int64_t cells = pool.height * pool.width;
  for (int64_t cell = 0; cell < cells; ++cell) {
    std::fill_n(largest, features, kSilent);
    pool.in(cell, height, width, [&](int64_t position) {
      const float* here = potential.data + position * features;
      for (int64_t f = 0; f < features; ++f) largest[f] = std::max(largest[f], here[f]);
    });
    ramp.search(largest, features, above);
    for (int64_t f = 0; f < features; ++f) result.data[f * cells + cell] = above[f];
  }
}

// `kernels.fire_on_ramp` of potentials (H, W, F), pooled: latencies (F, H', W').
ffi::Error ramp(Threads threads, Floats potential, Floats levels, ffi::Dictionary settings, ffi::Result<Bytes> result) {
  const Batch batch(result, 3);
  return batch.each(threads, [&](int64_t i) {
    fire_on_ramp(batch.part(potential, 3, i), batch.part(levels, 1, i), settings, batch.part(*result, 3, i));
  });
}

}  // namespace
