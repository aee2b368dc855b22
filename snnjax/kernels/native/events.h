// Layers whose inputs fire one after the other: only those that do cost anything.
//
// Weights are (kh, C, kw, F) with the columns of the kernel from right to left and F filled up with zeros to a multiple
// of kLanes, so that all that one input adds to a row of potentials (H', W', F) lies side by side. Latencies are uint8,
// T where silent; padding never fires; the stride is 1.

#pragma once

#include <cstdlib>
#include <tuple>

#include "common.h"

namespace {

// The size of a layer, and what enters it.
struct Shape {
  int64_t rows, channels, columns, stride;  // of the weights
  int64_t height, width, above, left;  // of the input, and its padding
  const uint8_t* latency;
  int64_t out_height = height + 2 * above - rows + 1, out_width = width + 2 * left - columns + 1;
  int64_t positions = out_height * out_width;

  // `input` is that of an image of `latencies` (..., C, H, W).
  Shape(const Floats& taps, const Bytes& latencies, const uint8_t* input, const ffi::Dictionary& settings)
      : rows(taps.dimensions()[0]), channels(taps.dimensions()[1]), columns(taps.dimensions()[2]),
        stride(taps.dimensions()[3]), height(latencies.dimensions().end()[-2]),
        width(latencies.dimensions().end()[-1]), above(number(settings, "above")), left(number(settings, "left")),
        latency(input) {}
};

// A layer and the potentials of its neurons while inputs fire.
struct Layer : Shape {
  enum : uint8_t { kQuiet, kTouched, kDead };

  const float* weights;
  bool whole = false;  // whether dead positions are added up too
  float* potential = filled<0, float>(positions * stride, 0);  // [positions, stride]
  uint8_t* state = filled<1, uint8_t>(positions, kQuiet);  // [positions]

  Layer(const Shape& shape, const float* weights) : Shape(shape), weights(weights) {}

  // All inputs of one step fire.
  void advance(int64_t step) {
    switch (stride / kLanes) {
      case 1: return advance_by<1>(step);
      case 2: return advance_by<2>(step);
      case 5: return advance_by<5>(step);
      case 7: return advance_by<7>(step);
      case 10: return advance_by<10>(step);
      case 13: return advance_by<13>(step);
      case 16: return advance_by<16>(step);
      default: return advance_by<0>(step);
    }
  }

 private:
  // `kBlocks` x kLanes features, known to the compiler; any number if 0.
  template <int64_t kBlocks>
  void advance_by(int64_t step) {
    const int64_t size = height * width, count = channels * size;
    const uint64_t same = 0x0101010101010101u * step;
    int64_t at = 0;
    for (; at + 8 <= count; at += 8) {
      uint64_t eight;
      std::memcpy(&eight, latency + at, 8);
      eight ^= same;  // a byte is zero where the input fires
      if (!((eight - 0x0101010101010101u) & ~eight & 0x8080808080808080u)) continue;
      for (int64_t i = at; i < at + 8; ++i)
        if (latency[i] == step) excite<kBlocks>(i / size, i % size / width, i % width);
    }
    for (; at < count; ++at)
      if (latency[at] == step) excite<kBlocks>(at / size, at % size / width, at % width);
  }

  template <int64_t kBlocks>
  void excite(int32_t channel, int32_t row, int32_t column) {
    const int64_t blocks = kBlocks ? kBlocks : stride / kLanes;
    const int64_t first = std::max<int64_t>(0, column + left - columns + 1);
    const int64_t last = std::min(out_width - 1, column + left);
    for (int64_t y = std::max<int64_t>(0, row + above - rows + 1); y <= std::min(out_height - 1, row + above); ++y) {
      const int64_t tap = row + above - y, skipped = first - (column + left - columns + 1);
      const float* from = weights + ((tap * channels + channel) * columns + skipped) * stride;
      const Lanes* gain = reinterpret_cast<const Lanes*>(from);
      Lanes* sum = reinterpret_cast<Lanes*>(potential + (y * out_width + first) * stride);
      uint8_t* now = state + y * out_width + first;
      for (int64_t x = first; x <= last; ++x, gain += blocks, sum += blocks, ++now) {
        if (*now != kDead) *now = kTouched;
        else if (!whole) continue;
        for (int64_t b = 0; b < blocks; ++b) sum[b] += gain[b];
      }
    }
  }
};

// One threshold for all features, or one for each, for the zeros that fill up F infinity.
struct Limits {
  const float* values;
  int64_t count;

  explicit Limits(const Floats& thresholds) : values(thresholds.typed_data()), count(thresholds.element_count()) {}

  // Below a threshold of 0 neurons without input fire too: at the first step all are looked at.
  void begin(Layer& layer) const {
    if (*std::min_element(values, values + count) < 0) std::fill_n(layer.state, layer.positions, Layer::kTouched);
  }
};

// The largest of `count` values, a multiple of kLanes.
float largest(const float* values, int64_t count) {
  const Lanes* blocks = reinterpret_cast<const Lanes*>(values);
  Lanes most = blocks[0];
  for (int64_t b = 1; b < count / kLanes; ++b) most = blocks[b] > most ? blocks[b] : most;
  float result = most[0];
  for (int64_t lane = 1; lane < kLanes; ++lane) result = std::max(result, most[lane]);
  return result;
}

// A neuron that may learn.
struct Winner {
  int32_t feature, row, column, when;
};

// Fire, pointwise inhibition and k winners, step after step until the winners are known; to the last step if `whole`.
void compete(Layer& layer, const Limits& limits, size_t k, int64_t radius, int64_t steps, std::vector<Winner>& won) {
  static thread_local std::vector<std::tuple<float, int32_t, int32_t>> spikes;  // -potential, feature, position
  static thread_local std::vector<uint8_t> used;
  limits.begin(layer);
  const bool shared = limits.count == 1;
  const float limit = shared ? limits.values[0] : -std::numeric_limits<float>::infinity();
  float* above = filled<4, float>(shared ? 0 : layer.stride, 0);  // potentials, -infinity where below their thresholds
  used.assign(layer.stride, 0);
  won.clear();
  int64_t step = 0;
  for (; step < steps && won.size() < k; ++step) {
    layer.advance(step);
    spikes.clear();
    for (int64_t position = 0; position < layer.positions; ++position) {
      if (layer.state[position] != Layer::kTouched) continue;
      layer.state[position] = Layer::kQuiet;
      const float* sums = layer.potential + position * layer.stride;
      if (!shared) {
        for (int64_t f = 0; f < layer.stride; ++f) above[f] = sums[f] > limits.values[f] ? sums[f] : limit;
        sums = above;
      }
      const float strongest = largest(sums, layer.stride);
      if (!(strongest > limit)) continue;
      layer.state[position] = Layer::kDead;
      const int32_t first = std::find(sums, sums + layer.stride, strongest) - sums;
      if (!used[first]) spikes.push_back({-strongest, first, position});
    }
    std::sort(spikes.begin(), spikes.end());
    for (const auto& [potential, winner, position] : spikes) {
      if (won.size() == k) break;
      const int32_t y = position / layer.out_width, x = position % layer.out_width;
      bool inhibited = used[winner];
      for (size_t other = 0; radius > 0 && !inhibited && other < won.size(); ++other)
        inhibited = std::abs(won[other].row - y) <= radius && std::abs(won[other].column - x) <= radius;
      if (inhibited) continue;
      used[winner] = 1;
      won.push_back({winner, y, x, static_cast<int32_t>(step)});
    }
  }
  for (; layer.whole && step < steps; ++step) layer.advance(step);
}

// How weights move.
struct Rule {
  float gain, loss, lower, upper;
  bool stabiliser;
};

// The winners' weights move.
void learn_winners(float* weights, const Shape& shape, const std::vector<Winner>& won, const Rule& rule) {
  for (int64_t r = 0; r < shape.rows; ++r)
    for (int64_t channel = 0; channel < shape.channels; ++channel)
      for (int64_t c = 0; c < shape.columns; ++c) {
        const uint8_t* inputs = shape.latency + channel * shape.height * shape.width;
        float* of_tap = weights + ((r * shape.channels + channel) * shape.columns + c) * shape.stride;
        for (const auto& [feature, row, column, when] : won) {
          const int64_t y = row - shape.above + r, x = column - shape.left + shape.columns - 1 - c;
          const bool inside = y >= 0 && y < shape.height && x >= 0 && x < shape.width;
          float& weight = of_tap[feature];
          float change = inside && inputs[y * shape.width + x] <= when ? rule.gain : rule.loss;
          if (rule.stabiliser) change *= (weight - rule.lower) * (rule.upper - weight);
          weight = std::min(std::max(weight + change, rule.lower), rule.upper);
        }
      }
}

}  // namespace
