// Potentials of a layer, event by event: only inputs that fire cost anything.

#pragma once

#include "competition.h"
#include "geometry.h"

namespace {

// A layer and the potentials of its neurons while inputs fire.
class EventLayer {
 public:
  enum : uint8_t { kQuiet, kTouched, kDead };

  // `packed`: its weights in the layout.
  EventLayer(const Geometry& geometry, const EventLayout& layout, const float* packed)
      : geometry_(geometry), weights_(packed), stride(layout.stride) {}

  // No input of this stimulus has fired yet.
  void begin(const uint8_t* latency) {
    latency_ = latency;
    potential = filled<0, float>(geometry_.positions() * stride, 0);
    state = filled<1, uint8_t>(geometry_.positions(), kQuiet);
  }

  // All inputs of one step fire.
  void advance(int64_t step) {
    with_known<1, 2, 5, 7, 10, 13, 16, 0>(stride / kFilled, [&]<int64_t kRows>() {
      advance_by<kRows * kFilled / kLanes>(step);
    });
  }

  const Geometry& geometry() const { return geometry_; }

 private:
  // `kBlocks` x kLanes features, known to the compiler; any number if 0.
  template <int64_t kBlocks>
  void advance_by(int64_t step) {
    const int64_t width = geometry_.width, size = geometry_.pixels(), count = geometry_.inputs();
    const uint64_t same = 0x0101010101010101u * step;
    int64_t index = 0;
    for (; index + 8 <= count; index += 8) {
      uint64_t eight;
      std::memcpy(&eight, latency_ + index, 8);
      eight ^= same;  // a byte is zero where the input fires
      if (!((eight - 0x0101010101010101u) & ~eight & 0x8080808080808080u)) continue;
      for (int64_t i = index; i < index + 8; ++i)
        if (latency_[i] == step) excite<kBlocks>(i / size, i % size / width, i % width);
    }
    for (; index < count; ++index)
      if (latency_[index] == step) excite<kBlocks>(index / size, index % size / width, index % width);
  }

  template <int64_t kBlocks>
  void excite(int32_t channel, int32_t row, int32_t column) {
    const Geometry& g = geometry_;
    const int64_t blocks = kBlocks ? kBlocks : stride / kLanes;
    const Span rows = g.below(row), columns = g.beside(column);
    int64_t tap = rows.tap;
    for (int64_t y = rows.first; y <= rows.last; ++y, tap -= g.down) {
      const int64_t line = (tap * g.channels + channel) * g.columns + g.columns - 1 - columns.tap;
      const Lanes* gain = reinterpret_cast<const Lanes*>(weights_ + line * stride);
      const int64_t begin = y * g.out_width + columns.first;
      Lanes* sum = reinterpret_cast<Lanes*>(potential + begin * stride);
      uint8_t* now = state + begin;
      for (int64_t x = columns.first; x <= columns.last; ++x, gain += blocks * g.right, sum += blocks, ++now) {
        if (*now == kDead) continue;
        *now = kTouched;
        for (int64_t b = 0; b < blocks; ++b) sum[b] += gain[b];
      }
    }
  }

  const Geometry geometry_;
  const float* weights_;
  const uint8_t* latency_ = nullptr;

 public:
  const int64_t stride;  // features, filled up
  float* potential = nullptr;  // [positions, stride]
  uint8_t* state = nullptr;  // [positions]
};

// One threshold for all features, or one for each.
struct Limits {
  const FloatPart thresholds;
  const float* values = thresholds.typed_data();
  const bool shared = thresholds.element_count() == 1;

  // Below a threshold of 0 neurons without input fire too: at the first step all are looked at.
  void begin(EventLayer& layer) const {
    if (*std::min_element(values, values + thresholds.element_count()) < 0)
      std::fill_n(layer.state, layer.geometry().positions(), EventLayer::kTouched);
  }

  // The thresholds of features filled up to `stride`, in memory slot kSlot; those that fill up never fire.
  template <int kSlot>
  float* filled_up(int64_t features, int64_t stride) const {
    float* limits = filled<kSlot, float>(stride, std::numeric_limits<float>::infinity());
    for (int64_t f = 0; f < features; ++f) limits[f] = values[shared ? 0 : f];
    return limits;
  }
};

// The neurons of a layer in a `Competition`, by exact potentials.
class EventRace {
 public:
  EventRace(EventLayer& layer, const Limits& limits)
      : layer_(layer), limits_(limits), features_(layer.geometry().features),
        above_(limits.shared ? 0 : features_) {}

  void begin(const uint8_t* latency) {
    layer_.begin(latency);
    limits_.begin(layer_);
  }

  const Geometry& layer() const { return layer_.geometry(); }
  void arrive(int32_t step) { layer_.advance(step); }
  bool may_spike(int64_t position) const { return layer_.state[position] == EventLayer::kTouched; }

  bool spike(int64_t position, int32_t step, Neuron& neuron) {
    layer_.state[position] = EventLayer::kQuiet;
    const float* sums = layer_.potential + position * layer_.stride;
    const float limit = limits_.shared ? limits_.values[0] : kSilent;
    if (!limits_.shared) {
      for (int64_t f = 0; f < features_; ++f) above_[f] = sums[f] > limits_.values[f] ? sums[f] : kSilent;
      sums = above_.data();
    }
    const float strongest = largest(sums, features_);
    if (!(strongest > limit)) return false;
    layer_.state[position] = EventLayer::kDead;
    neuron = {strongest, std::find(sums, sums + features_, strongest) - sums, position};
    return true;
  }

  void resolve(int32_t step, Neuron& neuron) const {}  // all are known

 private:
  EventLayer& layer_;
  const Limits& limits_;
  const int64_t features_;
  std::vector<float> above_;  // potentials of a position, -infinity where below their thresholds
};

}  // namespace
