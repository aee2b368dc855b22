// How the weights of a winner move.

#pragma once

#include "geometry.h"

namespace {

// The learning rates of causal and of other synapses, and the bounds of weights.
struct Rule {
  float gain, loss, lower, upper;
  bool stabiliser;
};

// A weight after a change, or several in the lanes of a vector.
template <typename Value>
Value moved(const Value& weight, Value change, const Value& lower, const Value& upper, bool stabiliser) {
  if (stabiliser) change *= (weight - lower) * (upper - weight);
  const Value sum = weight + change, above = sum < lower ? lower : sum;
  return upper < above ? upper : above;
}

// Moves the weights (C, kh, kw) of a neuron at an output row and column that has won at a step.
void learn_feature(const Geometry& layer, float* weights, const uint8_t* latency, int64_t row, int64_t column,
                   int32_t step, const Rule& rule) {
  constexpr uint8_t kNever = 255;  // there are at most 255 steps, from 0 on
  uint8_t* when = kept<10, uint8_t>(layer.synapses());  // of the inputs
  const int64_t top = row * layer.down - layer.above, first = column * layer.right - layer.left;
  const int64_t begin = std::clamp<int64_t>(-first, 0, layer.columns);
  const int64_t end = std::clamp<int64_t>(layer.width - first, begin, layer.columns);
  uint8_t* line = when;
  for (int64_t channel = 0; channel < layer.channels; ++channel)
    for (int64_t y = top; y < top + layer.rows; ++y, line += layer.columns) {
      const bool inside = y >= 0 && y < layer.height;
      const uint8_t* inputs = latency + (channel * layer.height + y) * layer.width + first;
      for (int64_t x = 0; x < layer.columns; ++x) line[x] = inside && x >= begin && x < end ? inputs[x] : kNever;
    }
  const float gain = rule.gain, loss = rule.loss, lower = rule.lower, upper = rule.upper;
  for (int64_t i = 0; i < layer.synapses(); ++i)
    weights[i] = moved(weights[i], when[i] <= step ? gain : loss, lower, upper, rule.stabiliser);
}

// Clips weights to bounds; those that lie within, as after a first update, are only read.
void clip(float* weights, int64_t size, float lower, float upper) {
  Steps outside = {};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    const Lanes& here = *reinterpret_cast<const Lanes*>(weights + i);
    outside |= (here < lower) | (here > upper);
  }
  bool any = bits(outside);
  for (; i < size; ++i) any |= weights[i] < lower || weights[i] > upper;
  for (i = 0; any && i < size; ++i) weights[i] = std::min(std::max(weights[i], lower), upper);
}

}  // namespace
