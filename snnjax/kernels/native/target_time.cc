// Features with target times on a CPU: patches are learned from one after the other, event by event.
//
// Weights are arranged as in kernels.cc: (kh, C, kw, F), columns reversed, F filled up to a multiple of kFilled by
// features whose thresholds are infinite. Python has checked all buffers.

#include "common.h"

namespace {

bool any(const Steps& flags) { return bits(flags); }

// The inputs of a patch that fire, step by step.
class Events {
 public:
  Events(int64_t taps, int64_t steps) : steps_(steps), first_(steps, -1), next_(taps), when_(taps) {}

  // From the patch at (top, left) of the map, beyond which nothing fires.
  void read(const uint8_t* latency, int64_t channels, int64_t height, int64_t width, int64_t rows, int64_t columns,
            int64_t top, int64_t left) {
    std::fill(first_.begin(), first_.end(), -1);
    std::fill(used_, used_ + 4, 0);
    for (int64_t r = rows - 1; r >= 0; --r)
      for (int64_t channel = channels - 1; channel >= 0; --channel)
        for (int64_t c = columns - 1; c >= 0; --c) {
          const int64_t y = top + r, x = left + columns - 1 - c, tap = (r * channels + channel) * columns + c;
          const bool inside = y >= 0 && y < height && x >= 0 && x < width;
          const int64_t step = inside ? latency[(channel * height + y) * width + x] : steps_;
          when_[tap] = step;
          if (step >= steps_) continue;
          next_[tap] = first_[step];
          first_[step] = tap;
          used_[step / 64] |= uint64_t{1} << step % 64;
        }
  }

  // Calls `fire(tap)` for the inputs of each step, then `end(step)`, until that returns true; whether it has.
  template <typename Fire, typename End>
  bool play(Fire fire, End end) const {
    for (int64_t word = 0; word < 4; ++word)
      for (uint64_t remaining = used_[word]; remaining; remaining &= remaining - 1) {
        const int64_t step = 64 * word + __builtin_ctzll(remaining);
        for (int32_t tap = first_[step]; tap >= 0; tap = next_[tap]) fire(tap);
        if (end(step)) return true;
      }
    return false;
  }

  int64_t when(int64_t tap) const { return when_[tap]; }

  bool has_inputs() const { return used_[0] | used_[1] | used_[2] | used_[3]; }

 private:
  int64_t steps_;
  std::vector<int32_t> first_, next_;  // of each step the first tap, of each tap the next one of its step; -1: none
  std::vector<uint8_t> when_;
  uint64_t used_[4];  // a bit for each step at which inputs fire
};

// `target_time.learn_patches` for images span[0]..span[1]-1, at positions [images, patches, 2]: top row, left column.
ffi::Error target_time(Floats weights, Floats threshold, Bytes latency, Integers positions, Integers span,
                       Floats numbers, Integers quiet, ffi::Dictionary settings, ffi::Result<Floats> learned,
                       ffi::Result<Floats> moved, ffi::Result<Integers> feature, ffi::Result<Integers> when,
                       ffi::Result<Integers> still_quiet) {
  const auto shape = weights.dimensions(), images = latency.dimensions();
  const int64_t taps = shape[0] * shape[1] * shape[2], stride = shape[3], blocks = stride / kLanes;
  const int64_t size = images[1] * images[2] * images[3], patches = positions.dimensions()[1];
  const int64_t steps = number(settings, "steps"), features = number(settings, "features");
  const int64_t most_quiet = number(settings, "most_quiet");
  int64_t in_a_row = quiet.typed_data()[0];
  const float* n = numbers.typed_data();
  const float rate = n[0], threshold_rate = n[1], beta = n[2], target = n[3], least = n[4], lower = n[5], upper = n[6];
  float *taps_of = learned->typed_data(), *limits = moved->typed_data();
  keep(weights, learned), keep(threshold, moved), silence(feature);
  const float won = features > 1 ? threshold_rate : 0, lost = features > 1 ? threshold_rate / (features - 1) : 0;
  std::fill_n(when->typed_data(), when->element_count(), steps);
  std::vector<float> potential(stride);
  Lanes *sums = reinterpret_cast<Lanes*>(potential.data()), *thresholds = reinterpret_cast<Lanes*>(limits);
  Events events(taps, steps);
  for (int64_t patch = span.typed_data()[0] * patches; patch < span.typed_data()[1] * patches; ++patch) {
    const int32_t* corner = positions.typed_data() + 2 * patch;
    events.read(latency.typed_data() + patch / patches * size, images[1], images[2], images[3], shape[0], shape[2],
                corner[0], corner[1]);
    std::fill(potential.begin(), potential.end(), 0);
    const auto fire = [&](int64_t tap) {
      const Lanes* gain = reinterpret_cast<const Lanes*>(taps_of + tap * stride);
      for (int64_t b = 0; b < blocks; ++b) sums[b] += gain[b];
    };
    int64_t step = steps;
    const auto crossed = [&](int64_t now) {
      Steps reached = sums[0] >= thresholds[0];
      for (int64_t b = 1; b < blocks; ++b) reached |= sums[b] >= thresholds[b];
      step = now;
      return any(reached);
    };
    if (!events.play(fire, crossed)) {
      const bool falls = events.has_inputs() && ++in_a_row > most_quiet;
      const float fall = threshold_rate * (1 - target);
      for (int64_t f = 0; falls && f < features; ++f) limits[f] = std::max(limits[f] - fall, least);
      continue;
    }
    in_a_row = 0;
    int64_t winner = -1;
    for (int64_t f = 0; f < features; ++f)
      if (potential[f] >= limits[f] && (winner < 0 || potential[f] > potential[winner])) winner = f;
    feature->typed_data()[patch] = winner;
    when->typed_data()[patch] = step;
    const float fall = threshold_rate * (static_cast<float>(step) / steps - target);
    for (int64_t f = 0; f < features; ++f)
      limits[f] = std::max(limits[f] - fall + (f == winner ? won : -lost), least);
    for (int64_t tap = 0; tap < taps; ++tap) {
      float& weight = taps_of[tap * stride + winner];
      const float place = (weight - lower) / (upper - lower);
      const bool causal = events.when(tap) <= step;  // silent inputs are at `steps`, beyond every step
      const float change = rate * std::exp(-beta * (causal ? place : 1 - place));
      weight = std::min(std::max(causal ? weight + change : weight - change, lower), upper);
    }
  }
  still_quiet->typed_data()[0] = in_a_row;
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_target_time, target_time);
