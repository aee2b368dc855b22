// Layers whose weights are known as integers of 7 bits, which bound every potential.
//
// The weights that one input adds to the features lie side by side as bytes, and many of them are added up at once;
// only the few neurons that matter are added up in floats.

#pragma once

#include <atomic>
#include <mutex>
#include <utility>

#include "plasticity.h"

namespace {

constexpr int64_t kBlock = 64;  // features whose sums are added up side by side
constexpr int64_t kRowsPerAdd = 2;  // bytes that can be added up without overflow
constexpr int kLevels = 128;
constexpr int64_t kMaxAdds = 256;  // sums of kRowsPerAdd bytes that 16 bits hold

typedef uint8_t Octets __attribute__((vector_size(kBlock), aligned(1), may_alias));
typedef uint16_t Halves __attribute__((vector_size(kBlock), aligned(1), may_alias));

// A layer with weights (F, C, kh, kw). Those of a neuron are packed as [kh, kw, C] when they are first asked for: in a
// short sequence only a few neurons come close to winning, and packing all weights would take longer than the rest.
struct IntegerLayer : Geometry {
  int32_t time_steps;
  std::vector<int32_t> places;  // [positions, taps], the pixel where each tap lies, -1 on padding
  std::vector<uint8_t> used;  // [taps], whether any position has a pixel there

  IntegerLayer(const Geometry& geometry, int32_t time_steps, const float* weights)
      : Geometry(geometry), time_steps(time_steps), used(taps()), given_(weights), memory_(size()), packed_(features) {
    for (int64_t position = 0; position < positions(); ++position)
      for (int64_t tap = 0; tap < taps(); ++tap) {
        const int64_t y = position / out_width * down - above + tap / columns;
        const int64_t x = position % out_width * right - left + tap % columns;
        places.push_back(y >= 0 && y < height && x >= 0 && x < width ? y * width + x : -1);
        used[tap] |= places.back() >= 0;
      }
  }

  // The packed weights of a neuron, which may change; several threads may ask for them.
  float* packed_rows(int64_t feature) const {
    float* rows = memory_.data() + feature * synapses();
    if (!packed_[feature].load(std::memory_order_acquire)) pack(feature, rows);
    return rows;
  }

  // The weights as they were given.
  const float* given() const { return given_; }

  // Writes the weights of features [first, end) as they are now to `weights` (F, C, kh, kw), which may be those given.
  void unpack(float* weights, int64_t first, int64_t end) const {
    for (int64_t feature = first; feature < end; ++feature) {
      const int64_t place = feature * synapses();
      if (packed_[feature]) {
        transpose(memory_.data() + place, channels, weights + place, taps(), taps(), channels);
      } else if (weights != given_) {
        std::copy_n(given_ + place, synapses(), weights + place);
      }
    }
  }

  void unpack(float* weights) const { unpack(weights, 0, features); }

  // Where a tap of a position lies, -1 on padding.
  int64_t pixel(int64_t position, int64_t tap) const { return places[position * taps() + tap]; }

 private:
  void pack(int64_t feature, float* rows) const {
    const std::lock_guard<std::mutex> lock(packing_);
    if (packed_[feature]) return;  // by another thread
    transpose(given_ + feature * synapses(), taps(), rows, channels, channels, taps());
    packed_[feature].store(true, std::memory_order_release);
  }

  const float* given_;
  const Memory<float> memory_;  // [F, kh, kw, C], arbitrary where a feature is not packed
  mutable std::vector<std::atomic<bool>> packed_;  // [F]
  mutable std::mutex packing_;
};

// The inputs of one image that fire.
class Inputs {
 public:
  // `steps`: 1 if it does not matter when they fire, otherwise all.
  Inputs(const IntegerLayer& layer, int32_t steps)
      : layer_(&layer), steps_(steps), channels_(layer.channels), when_(layer.inputs() + kLanes), fired_(layer.channels + 1),
        channel_(layer.inputs()), end_(layer.pixels() * steps + 1) {}

  void read(const uint8_t* latency) {
    const int64_t pixels = layer_->pixels();
    turn(latency, when_.data(), channels_, pixels, pixels);
    const int32_t silent = layer_->time_steps;
    int32_t total = 0;
    for (int64_t p = 0; p < pixels; ++p) {
      const int32_t* when = when_.data() + p * channels_;
      int32_t count = 0;
      for (int32_t c = 0; c < channels_; ++c) {
        fired_[count] = c;
        count += when[c] < silent;
      }
      total = steps_ == 1 ? copy(p, count, total) : sort(p, when, count, total);
    }
  }

  // When the inputs of a pixel fire, and kLanes more.
  const int32_t* when(int64_t pixel) const { return when_.data() + pixel * channels_; }
  // The channels of a pixel that fire at a step.
  const int32_t* begin(int64_t pixel, int32_t step) const { return channel_.data() + end_[pixel * steps_ + step]; }
  const int32_t* end(int64_t pixel, int32_t step) const { return channel_.data() + end_[pixel * steps_ + step + 1]; }

 private:
  int32_t copy(int64_t pixel, int32_t count, int32_t total) {
    std::copy_n(fired_.data(), count, channel_.data() + total);
    return end_[pixel + 1] = total + count;
  }

  int32_t sort(int64_t pixel, const int32_t* when, int32_t count, int32_t total) {
    int32_t* end = end_.data() + pixel * steps_ + 1;
    std::fill_n(end, steps_, 0);
    for (int32_t i = 0; i < count; ++i) ++end[when[fired_[i]]];
    int32_t place[256];
    for (int32_t step = 0; step < steps_; ++step) {
      place[step] = total;
      total += end[step];
      end[step] = total;
    }
    for (int32_t i = 0; i < count; ++i) channel_[place[when[fired_[i]]]++] = fired_[i];
    return total;
  }

  const IntegerLayer* layer_;
  int32_t steps_;
  int64_t channels_;
  std::vector<int32_t> when_;  // [pixels, C]
  std::vector<int32_t> fired_;  // of one pixel
  std::vector<int32_t> channel_, end_;  // channels by pixel and step, and where each step ends, after a 0
};

// The least and the largest of some weights.
std::pair<float, float> range(const float* weight, const float* end) {
  Lanes least = Lanes{} + *weight, most = least;
  for (; weight + kLanes <= end; weight += kLanes) {
    const Lanes& here = *reinterpret_cast<const Lanes*>(weight);
    least = here < least ? here : least;
    most = here > most ? here : most;
  }
  float low = least[0];
  float high = most[0];
  for (int64_t lane = 1; lane < kLanes; ++lane) {
    low = std::min<float>(low, least[lane]);
    high = std::max<float>(high, most[lane]);
  }
  for (; weight < end; ++weight) {
    low = std::min(low, *weight);
    high = std::max(high, *weight);
  }
  return {low, high};
}

// The meaning of integers: weight = lower + step * integer, give or take half a step.
struct Scale {
  float lower, step, inverse;

  float top() const { return lower + step * (kLevels - 1); }
  int32_t of(float weight) const { return static_cast<int32_t>((weight - lower) * inverse + 0.5f); }
  Steps of(const Lanes& weights) const { return __builtin_convertvector((weights - lower) * inverse + 0.5f, Steps); }
};

// The weights as integers.
class Quantised {
 public:
  int64_t blocks, stride;  // of features
  Scale scale;

  // Of weights between two bounds, on which the scale depends if they are finite.
  explicit Quantised(const IntegerLayer& layer, float low = kSilent, float high = -kSilent)
      : blocks((layer.features + kBlock - 1) / kBlock), stride(blocks * kBlock), tap_(layer.channels * stride),
        values_(layer.taps() * tap_), bounded_(std::isfinite(high - low)) {
    if (bounded_) fill(layer, layer.given(), low, high);
    else fit(layer, layer.given());
  }

  // After neurons of the layer have learned: without finite bounds the scale follows the weights.
  void fit_unbounded(const IntegerLayer& layer) {
    if (bounded_) return;
    const Memory<float> weights(layer.size());
    layer.unpack(weights.data());
    fit(layer, weights.data());
  }

  const uint8_t* row(int64_t tap) const { return values_.data() + place(tap, 0); }
  int32_t place(int64_t tap, int64_t channel) const { return tap * tap_ + channel * stride; }
  // Even and odd bytes of a block are added up apart: each of these are neighbouring features.
  uint8_t& at(int64_t feature, int64_t tap, int64_t channel) {
    const int64_t f = feature % kBlock, half = kBlock / 2;
    return values_.data()[place(tap, channel) + feature / kBlock * kBlock + 2 * (f % half) + f / half];
  }

 private:
  void fit(const IntegerLayer& layer, const float* weights) {
    const auto [least, most] = range(weights, weights + layer.size());
    fill(layer, weights, least, most);
  }

  // From weights (F, C, kh, kw).
  void fill(const IntegerLayer& layer, const float* weights, float low, float high) {
    const float step = (high - low) / (kLevels - 1);
    scale = {low, step, step > 0 ? 1 / step : 0};
    for (int64_t synapse = 0; synapse < layer.synapses(); synapse += kLanes)
      for (int64_t first = 0; first < layer.features; first += kBlock) fill_tile(layer, weights, first, synapse);
  }

  // For kBlock features from `first` and kLanes synapses, which are numbered as in (C, kh, kw).
  void fill_tile(const IntegerLayer& layer, const float* weights, int64_t first, int64_t synapse) {
    const int64_t synapses = layer.synapses(), count = std::min(kBlock, layer.features - first);
    const int64_t lanes = std::min(kLanes, synapses - synapse);
    const float* from = weights + first * synapses + synapse;
    float words[kBlock / 4][kLanes], rows[kLanes][kBlock / 4];  // of four bytes
    for (int64_t word = 0; word < kBlock / 4; ++word) {
      Steps four = {};  // features, as they lie in a block
      for (int64_t byte = 0; byte < 4; ++byte) {
        const int64_t feature = 2 * word + byte / 2 + byte % 2 * (kBlock / 2);
        if (feature >= count) continue;
        Lanes here = {};
        __builtin_prefetch(from + feature * synapses + 2 * kLanes);  // too many streams for the processor to foresee
        if (lanes == kLanes) here = *reinterpret_cast<const Lanes*>(from + feature * synapses);
        else std::memcpy(&here, from + feature * synapses, sizeof(float) * lanes);
        four |= (scale.of(here) & 255) << (8 * byte);
      }
      std::memcpy(words[word], &four, sizeof(four));
    }
    transpose(words[0], kLanes, rows[0], kBlock / 4, kBlock / 4, kLanes);
    int64_t channel = synapse / layer.taps(), tap = synapse % layer.taps();
    for (int64_t lane = 0; lane < lanes; ++lane) {
      if (layer.used[tap]) std::memcpy(values_.data() + place(tap, channel) + first, rows[lane], kBlock);
      if (++tap == layer.taps()) tap = 0, ++channel;
    }
  }

  int64_t tap_;
  const Memory<uint8_t> values_;  // [taps, C, stride], arbitrary where a tap is not used
  const bool bounded_;
};

// Inputs of a pixel that fire together, and the rows of its tap.
struct Run {
  const int32_t *channel, *end;
  const uint8_t* rows;
};

// Adds up kBlocks blocks, from byte `first` on, of the rows of inputs; sums of even and of odd bytes apart.
template <int kBlocks>
void add(const Run* run, const Run* end, int64_t first, int64_t stride, uint16_t* sums) {
  Halves* of_block = reinterpret_cast<Halves*>(sums);
  Halves both[kBlocks], odd[kBlocks];  // even + 256 odd: what overflows there is taken off in the end
  for (int b = 0; b < kBlocks; ++b) odd[b] = of_block[2 * b + 1], both[b] = of_block[2 * b] + (odd[b] << 8);
  auto add_up = [&](int b, const Octets& octets) {
    const Halves halves = reinterpret_cast<Halves>(octets);
    both[b] += halves;
    odd[b] += halves >> 8;
  };
  for (; run < end; ++run) {
    const int32_t* channel = run->channel;
    auto row = [&](int i) { return reinterpret_cast<const Octets*>(run->rows + first + channel[i] * stride); };
    for (; channel + 1 < run->end; channel += kRowsPerAdd)
      for (int b = 0; b < kBlocks; ++b) add_up(b, row(0)[b] + row(1)[b]);
    if (channel < run->end)
      for (int b = 0; b < kBlocks; ++b) add_up(b, row(0)[b]);
  }
  for (int b = 0; b < kBlocks; ++b) of_block[2 * b] = both[b] - (odd[b] << 8), of_block[2 * b + 1] = odd[b];
}

}  // namespace
