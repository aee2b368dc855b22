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
    // Loops of known length for the layers of the published digit networks: 30, 75, 100, 150, 200 and 250 features, in
    // blocks of 16.
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
    // Eight latencies are compared at once, because hardly any fires at a given step: of an encoded digit, 24 % of the
    // inputs fire at all, and 1.6 % at the first step.
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
    const int64_t blocks = kBlocks ? kBlocks : stride / kLanes, step = blocks * g.right, width = g.out_width;
    const Span rows = g.below(row), columns = g.beside(column);
    const int64_t end = columns.last + 1 - columns.first, behind = g.columns - 1 - columns.tap;
    int64_t tap = rows.tap;
    for (int64_t y = rows.first; y <= rows.last; ++y, tap -= g.down) {
      const int64_t line = (tap * g.channels + channel) * g.columns + behind, begin = y * width + columns.first;
      const Lanes* gain = reinterpret_cast<const Lanes*>(weights_) + line * blocks;
      Lanes* sum = reinterpret_cast<Lanes*>(potential) + begin * blocks;
      uint8_t* now = state + begin;
      for (int64_t x = 0; x < end; ++x, gain += step, sum += blocks) {
        if (now[x] == kDead) continue;
        now[x] = kTouched;
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
    // Their potentials stay 0, which is above a threshold below 0: with any finite threshold they could win.
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
        thresholds_(reinterpret_cast<const Lanes*>(limits.filled_up<4>(features_, layer.stride))) {}

  void begin(const uint8_t* latency) {
    layer_.begin(latency);
    limits_.begin(layer_);
  }

  const Geometry& layer() const { return layer_.geometry(); }
  void arrive(int32_t step) { layer_.advance(step); }
  bool may_spike(int64_t position) const { return layer_.state[position] == EventLayer::kTouched; }

  bool spike(int64_t position, int32_t step, Neuron& neuron) {
    layer_.state[position] = EventLayer::kQuiet;
    const Lanes* sums = reinterpret_cast<const Lanes*>(layer_.potential + position * layer_.stride);
    const int64_t blocks = layer_.stride / kLanes;
    Steps above = {};
    for (int64_t b = 0; b < blocks; ++b) above |= sums[b] > thresholds_[b];
    if (!bits(above)) return false;
    layer_.state[position] = EventLayer::kDead;
    Lanes most = Lanes{} + kSilent;
    for (int64_t b = 0; b < blocks; ++b) most = (sums[b] > thresholds_[b]) & (sums[b] > most) ? sums[b] : most;
    const float strongest = largest(reinterpret_cast<const float*>(&most), kLanes);
    int64_t block = 0;
    uint32_t found;
    while (!(found = bits((sums[block] > thresholds_[block]) & (sums[block] == strongest)))) ++block;
    neuron = {strongest, block * kLanes + __builtin_ctz(found), position};
    return true;
  }

  void resolve(int32_t step, Neuron& neuron) const {}  // all are known

 private:
  EventLayer& layer_;
  const Limits& limits_;
  const int64_t features_;
  const Lanes* thresholds_;  // filled up
};

}  // namespace
